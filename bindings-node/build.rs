//! Tells the linker what Node.js addons need.

fn main() {
    napi_build::setup();
}
