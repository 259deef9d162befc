//! Tables for terminals.

use comfy_table::{CellAlignment, Table, presets};

/// A table whose columns, after the first `words`, are numbers.
pub(crate) fn new_table(header: &[&str], words: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.to_vec());
    for column in table.column_iter_mut().skip(words) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
