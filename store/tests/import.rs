//! Importing: what goes in comes out.


use crate::support::{Archive, Scratch};

#[test]
fn an_imported_tar_is_an_image_that_stacks() {
    let scratch = Scratch::new();
    let tar = Archive::new().directory("etc", 0o755).file("etc/hostname", b"box\n").finish();
    let image = scratch.import(&tar).unwrap();
    let stack = scratch.store.stack(&image).unwrap();
    let text = std::fs::read_to_string(stack.layers()[0].fs.join("etc/hostname")).unwrap();
    assert_eq!(text, "box\n");
}
