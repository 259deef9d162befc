//! The page that shows a report: one file, nothing fetched.

const TEMPLATE: &str = include_str!("page.html");

/// Where the data goes.
const PLACE: &str = "/*REPORT*/null";

/// The page with a report in it.
pub(super) fn fill(json: &str) -> String {
    // JSON has it in strings only; there it could end the script, or keep it from ending.
    TEMPLATE.replacen(PLACE, &json.replace('<', "\\u003c"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_takes_its_place_and_cannot_leave_it() {
        assert_eq!(TEMPLATE.matches(PLACE).count(), 1);
        let page = fill("{\"command\":\"<!--<script></script>\"}");
        assert!(page.contains("{\"command\":\"\\u003c!--\\u003cscript>\\u003c/script>\"}"));
        assert!(!page.contains(PLACE));
    }
}
