//! The plan as a shell script: the same container by hand, with the tools of any distribution
//! (util-linux, iproute2, nftables). Stage by stage in the order of `life`, so that whoever has
//! built a container by hand recognises each step, and a test can run it and compare.
//!
//! What a shell cannot do the script says where it does otherwise: resolve paths inside the
//! container's root, execute a host's tool after pivot_root, install a system call filter.

mod around;
mod inside;
mod shell;

use super::RunPlan;
use shell::{quoted, quoted_path, words};

/// The script.
pub fn script(plan: &RunPlan) -> String {
    let mut script = Script::default();
    script.preamble(plan);
    script.directories(plan);
    if let Some(bridged) = &plan.bridged {
        script.bridge(bridged);
    }
    script.cgroup(plan);
    script.inside(plan);
    script.launch(plan);
    script.text
}

#[derive(Default)]
struct Script {
    text: String,
}

impl Script {
    /// A line as it is.
    fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    /// A blank line, and what the next lines are about.
    fn stage(&mut self, comment: &str) {
        self.line("");
        for line in comment.lines() {
            self.line(format!("# {line}"));
        }
    }

    fn preamble(&mut self, plan: &RunPlan) {
        self.line("#!/bin/sh");
        self.line("# What `mybox run` does for this container, as commands to type. Needs root.");
        self.line(format!(
            "# image {}, command: {}",
            plan.image,
            words(plan.command())
        ));
        self.line("set -eu");
        self.line(format!("ID={}", plan.id));
        self.line(format!("C={}", quoted_path(plan.files.dir())));
        self.line("R=\"$C/rootfs\"");
    }

    fn directories(&mut self, plan: &RunPlan) {
        self.stage("The container's own directories. The image's layers are not touched.");
        self.line("mkdir -p \"$C/upper\" \"$C/work\" \"$R\"");
        for (name, text) in &plan.etc {
            self.line(format!("printf %s {} > \"$C/{name}\"", quoted(text)));
        }
        for volume in &plan.volumes {
            self.line(format!("mkdir -p {}", quoted_path(&volume.data())));
        }
    }
}
