//! SIGKILL at two hundred random moments: what is published verifies, and the next command works.
//!
//! `tests/crash.rs` kills `run` at each of its system calls. Here the moments are random ones of
//! the verbs that change the store, many of which overlap in several threads.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{Random, is_whole, tree};
use crate::harness::registry::{FakeRegistry, TestImage};
use crate::harness::{Cmd, Sandbox};

const ROUNDS: u64 = 200;
const FILES: usize = 120;

#[derive(Clone, Copy, Debug)]
enum Verb {
    Import,
    Pull,
    Rmi,
    Gc,
    Tag,
}

const VERBS: [Verb; 5] = [Verb::Import, Verb::Pull, Verb::Rmi, Verb::Gc, Verb::Tag];

struct Killing {
    sandbox: Sandbox,
    registry: FakeRegistry,
}

impl Killing {
    /// Makes what the verb needs, and the command that does it.
    fn prepare(&self, verb: Verb, round: u64) -> Cmd {
        let name = format!("round:{round}");
        match verb {
            Verb::Import => self.import(&name, &name),
            Verb::Pull => {
                let layer = |number| tree(&format!("{name} {number}"), FILES / 3);
                let image = TestImage::new((0..3).map(layer));
                self.registry.add(&format!("app:{round}"), &image);
                let name = self.registry.reference(&format!("app:{round}"));
                self.sandbox.mybox(["pull", "--quiet", &name])
            }
            Verb::Rmi => {
                self.import(&name, &name).run().ok();
                self.sandbox.mybox(["rmi", &name])
            }
            Verb::Gc => {
                // The second takes the name, and leaves the first without one.
                self.import(&name, &format!("{name} old")).run().ok();
                self.import(&name, &name).run().ok();
                self.sandbox.mybox(["gc"])
            }
            Verb::Tag => self
                .sandbox
                .mybox(["tag", "base", &format!("tagged:{round}")]),
        }
    }

    fn import(&self, name: &str, content: &str) -> Cmd {
        let file = self.sandbox.scratch().join("rootfs.tar");
        std::fs::write(&file, tree(content, FILES).tar()).expect("write a tar");
        let import = self.sandbox.mybox(["import", "--quiet"]);
        import.arg(file).arg(name)
    }

    /// How long the verb takes when nobody kills it.
    fn duration(&self, verb: Verb, round: u64) -> Duration {
        let command = self.prepare(verb, round);
        let start = Instant::now();
        command.run().ok();
        start.elapsed()
    }

    /// Everything is whole; what was there before is there; and the next command works.
    #[track_caller]
    fn survived(&self, verb: Verb, round: u64) {
        is_whole(&self.sandbox);
        let inspect = self.sandbox.mybox(["inspect", "base"]);
        inspect.run().ok();
        match verb {
            // Half-way may have been far enough.
            Verb::Rmi => {
                let name = format!("round:{round}");
                let again = self.sandbox.mybox(["rmi", &name]).run();
                assert!(
                    again.exit_code() == Some(0) || again.stderr().contains("no such image"),
                    "{}",
                    again.stderr()
                );
            }
            Verb::Import | Verb::Pull => {
                self.prepare(verb, round).run().ok();
            }
            Verb::Gc => {
                self.sandbox.mybox(["gc"]).run().ok();
            }
            Verb::Tag => {
                let tag = ["tag", "base", &format!("tagged:{round}")];
                self.sandbox.mybox(tag).run().ok();
            }
        }
        is_whole(&self.sandbox);
    }
}

#[test]
fn killed_at_two_hundred_random_moments_the_store_is_whole_and_goes_on() {
    let mut random = Random::new();
    let killing = Killing {
        sandbox: Sandbox::new("killed"),
        registry: FakeRegistry::start(),
    };
    killing.import("base", "base").run().ok();
    let usual = VERBS.map(|verb| killing.duration(verb, ROUNDS + verb as u64));
    let mut killed = 0;
    for round in 0..ROUNDS {
        let verb = VERBS[random.below(VERBS.len() as u64) as usize];
        let longest = usual[verb as usize].as_micros() as u64 * 5 / 4;
        let moment = Duration::from_micros(random.below(longest));
        println!("round {round}: {verb:?} killed after {moment:?}");
        let victim = killing.prepare(verb, round).spawn();
        std::thread::sleep(moment);
        victim.signal(Signal::KILL);
        killed += u64::from(victim.wait().signal() == Some(9));
        killing.survived(verb, round);
        if round % 20 == 19 {
            let remove = killing.sandbox.mybox(["gc", "--keep-bytes", "1MB"]);
            // A store of one image may be larger than that: then its exit code is 1.
            drop(remove.run());
            killing.import("base", "base").run().ok();
        }
    }
    // The moments are chosen so that most commands are still there.
    println!("{killed} of {ROUNDS} were killed before they had ended");
    assert!(
        killed > ROUNDS / 4,
        "only {killed} commands were killed at all"
    );
}
