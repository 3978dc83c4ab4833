# Each recipe is what one could type. As root, on Debian or Ubuntu, with Rust installed.

.PHONY: demo test lint bench vm-test man

# What a container is, shown: a root filesystem, an image, a run with network and limits.
demo:
	fixtures/install-tools.sh demo
	cargo build --release --locked
	fixtures/demo.sh target/release/mybox

# Everything, as CI runs it; before that what has to do with images, with layers in the form that is not
# this machine's own.
test:
	fixtures/install-tools.sh test
	MYBOX_TEST_LAYER_FORM=unpacked cargo test --locked --test behaviour -- \
		archives:: cache:: compressed:: crash:: dry_run:: durability::disk durability::kill filesystem:: \
		gc:: hostile:: images:: import:: lifecycle:: pull:: run:: verify::
	cargo test --workspace --locked

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

# Start-up and pull time beside crun, runc, podman and docker. In a network namespace of its own, since
# podman and docker leave their bridges and their firewall rules behind.
bench:
	fixtures/install-tools.sh bench
	cargo build --release --locked
	unshare --net cargo bench --locked --offline --bench start
	unshare --net cargo bench --locked --offline --bench many
	cargo bench --locked --offline --bench cache
	unshare --net --mount sh -c 'ip link set lo up && cargo bench --locked --offline --bench pull'

# The tests on a cgroup v2 kernel alone (they are part of `make test`).
vm-test:
	fixtures/install-tools.sh test
	cargo test --locked --test behaviour -- vm::

# A man page a verb, in target/man.
man:
	cargo build --release --locked
	target/release/mybox man target/man
