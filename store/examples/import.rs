//! `import ROOT FILE|DIR [REF]`: imports into the store at ROOT and prints the image id. The peak
//! of its memory goes to standard error. LAYER_FORM is the layer's form, unpacked if not said. The
//! store's tests run it where they need a process.

use std::error::Error;
use std::path::Path;

use mybox_store::{ImportOptions, ImportSource, Store};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, source, rest @ ..] = &*arguments else {
        return Err("usage: import ROOT FILE|DIR [REF]".into());
    };
    let reference = rest.first().map(|text| text.parse()).transpose()?;
    let options = ImportOptions {
        reference,
        ..ImportOptions::default()
    };
    let form = std::env::var("LAYER_FORM").ok();
    let form = form
        .map(|form| form.parse())
        .transpose()?
        .unwrap_or_default();
    let store = Store::open(Path::new(root))?.with_layer_form(form);
    let source = Path::new(source);
    let mut file;
    let from = if source.is_dir() {
        ImportSource::Directory(source)
    } else {
        file = std::fs::File::open(source)?;
        ImportSource::Stream {
            reader: &mut file,
            name: "input",
            total: None,
        }
    };
    let result = store.import(from, &options, &mut |_| {});
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    eprintln!("peak {}", peak.unwrap_or("unknown").trim());
    match result {
        Ok(image) => println!("{}", image.id),
        Err(error) => {
            let mut text = format!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                text += &format!(": {error}");
                cause = error.source();
            }
            eprintln!("{text}");
            std::process::exit(1);
        }
    }
    Ok(())
}
