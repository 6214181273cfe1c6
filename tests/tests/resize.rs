//! Volumes that change their size while they are used.

use anyhow::Result;
use tests::nbd::{self, Client, ENOSPC};
use tests::target::Target;
use tests::{Launch, MIB, Scratch};

fn start(scratch: &Scratch) -> Result<Target> {
    Launch::new(scratch).volume("other=memory,size=1M").start()
}

#[test]
fn a_payload_that_comes_after_a_shrink_is_refused() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.join("disk.img");
    let mut target = start(&scratch)?;
    for (name, backing) in [("file", file.to_str().expect("a plain path")), ("memory", "memory")] {
        target.control(&["volume", "create", name, "--backing", backing, "--size", "8M"])?.ok()?;
        let mut client = Client::attach(target.address(), name)?;
        let mut frames = nbd::request_frame(nbd::CMD_READ, 0, 1, 0, 512).to_vec();
        frames.extend(nbd::request_frame(nbd::CMD_WRITE, 0, 2, 8 * MIB - 4096, 4096));
        frames.extend([7; 100]);
        client.send(&frames)?;
        assert_eq!(client.reply()?, (0, 1));
        client.receive(512)?;
        target.control(&["volume", "resize", name, "4M", "--shrink"])?.ok()?;
        client.send(&[7; 3996])?;
        assert_eq!(client.reply()?, (ENOSPC, 2), "{name}");
        target.assert_alive()?;
    }
    assert_eq!(file.metadata()?.len(), 4 * MIB, "the write has made the file longer again");
    target.stop()?;
    Ok(())
}

#[test]
fn memory_that_ends_in_the_middle_of_a_page_grows_with_its_bytes() -> Result<()> {
    let scratch = Scratch::new()?;
    let target = start(&scratch)?;
    target.control(&["volume", "create", "disk", "--backing", "memory", "--size", "4608"])?.ok()?;
    Client::attach(target.address(), "disk")?.write(4096, &[7; 512])?;
    for size in ["8192", "12288", "3M"] {
        target.control(&["volume", "resize", "disk", size])?.ok()?;
        let kept = Client::attach(target.address(), "disk")?.read(4096, 512)?;
        assert_eq!(kept, [7; 512], "after growing to {size}");
    }
    target.stop()?;
    Ok(())
}
