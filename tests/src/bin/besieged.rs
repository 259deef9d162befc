//! `bt2c-node` again, so that the tests of this package have it at hand.

fn main() -> std::process::ExitCode {
    bt2c_node::main()
}
