//! The `bt2c-node` binary; all of it is in the library.

fn main() -> std::process::ExitCode {
    bt2c_node::main()
}
