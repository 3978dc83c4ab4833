//! Whatever the compression, the same image.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{Archive, Scratch};

fn tar() -> Vec<u8> {
    let content: Vec<u8> = (0..300_000_u32)
        .flat_map(|number| (number / 7).to_le_bytes())
        .collect();
    Archive::new()
        .file("a", &content)
        .file("b", b"short")
        .finish()
}

/// Compresses with the real tool.
fn through(command: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{command:?}");
    output.stdout
}

const COMPRESSORS: [&[&str]; 5] = [
    &["gzip", "-c"],
    &["zstd", "-c"],
    &["zstd", "-19", "-c"],
    &["xz", "-c"],
    &["bzip2", "-c"],
];

#[test]
fn every_compression_gives_the_same_digests() {
    let scratch = Scratch::new();
    let tar = tar();
    let plain = scratch.import(&tar).unwrap();
    for command in COMPRESSORS {
        let image = scratch.import(&through(command, &tar)).unwrap();
        assert_eq!(
            (image.id, image.manifest),
            (plain.id, plain.manifest),
            "{command:?}"
        );
    }
    assert_eq!(scratch.store.images().unwrap().len(), 1);
}

#[test]
fn streams_in_several_parts_are_read_to_the_end() {
    let scratch = Scratch::new();
    let tar = tar();
    let plain = scratch.import(&tar).unwrap();
    for command in COMPRESSORS {
        let (one, two) = tar.split_at(tar.len() / 3);
        let parts = [through(command, one), through(command, two)].concat();
        assert_eq!(scratch.import(&parts).unwrap().id, plain.id, "{command:?}");
    }
    let mut skippable = vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, b'a', b'b', b'c'];
    skippable.extend(through(&["zstd", "-c"], &tar));
    assert_eq!(scratch.import(&skippable).unwrap().id, plain.id);
    let mut padded = through(&["gzip", "-c"], &tar);
    padded.extend([0; 5000]);
    assert_eq!(scratch.import(&padded).unwrap().id, plain.id);
}

#[test]
fn a_compressed_stream_that_stops_early_is_an_error() {
    let tar = tar();
    for command in COMPRESSORS {
        let whole = through(command, &tar);
        let format = command[0];
        Scratch::new().refuses(&whole[..whole.len() - 9], &["test.tar", format]);
        Scratch::new().refuses(&whole[..whole.len() / 2], &["test.tar", format]);
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 0xff;
        assert!(Scratch::new().import(&damaged).is_err(), "{command:?}");
    }
}

#[test]
fn junk_after_gzip_data_is_not_passed_over() {
    let mut junk = through(&["gzip", "-c"], &tar());
    junk.extend(b"junk");
    Scratch::new().refuses(&junk, &["follows the gzip data"]);
}

#[test]
fn what_is_no_tar_is_called_what_it_is() {
    for (input, says) in [
        (&b"PK\x03\x04 and so on"[..], "a zip archive"),
        (b"hello\n", "text"),
        (b"\x7fELF\x02\x01\x01", "an ELF program"),
        (&[0xff; 4096], "data of no known kind"),
    ] {
        Scratch::new().refuses(input, &["test.tar", says]);
        let packed = through(&["gzip", "-c"], input);
        Scratch::new().refuses(&packed, &["test.tar", "gzip data that holds", says]);
    }
    let twice = through(&["gzip", "-c"], &through(&["gzip", "-c"], &tar()));
    Scratch::new().refuses(&twice, &["gzip data that holds"]);
}

#[test]
fn decoders_that_want_too_much_memory_are_refused_with_advice() {
    let tar = Archive::new().file("a", &vec![7; 40 << 20]).finish();
    let window = through(&["zstd", "--long=27", "-c"], &tar);
    Scratch::new().refuses(&window, &["zstd", "MiB", "--long"]);
    let dictionary = through(&["xz", "-9", "-c"], &tar);
    Scratch::new().refuses(&dictionary, &["xz", "48 MiB", "xz -8"]);
    let scratch = Scratch::new();
    scratch.import(&through(&["xz", "-8", "-c"], &tar)).unwrap();
    scratch
        .import(&through(&["zstd", "--long=25", "-c"], &tar))
        .unwrap();
}
