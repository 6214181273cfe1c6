//! Stand-in for `wire::nbd` until it is there.
#![allow(missing_docs)]
use std::io::{self, Read, Write};

pub fn dial(stream: &mut (impl Read + Write), export: &str, structured: bool) -> io::Result<(u64, bool)> {
    let mut hello = [0u8; 18];
    stream.read_exact(&mut hello)?;
    if &hello[..16] != b"NBDMAGICIHAVEOPT" {
        return Err(io::Error::other("not a newstyle NBD server"));
    }
    stream.write_all(&3u32.to_be_bytes())?;
    let mut agreed = false;
    if structured {
        option(stream, 8, &[])?;
        agreed = reply(stream)?.0 == 1;
    }
    let mut data = (export.len() as u32).to_be_bytes().to_vec();
    data.extend(export.as_bytes());
    data.extend([0, 0]);
    option(stream, 7, &data)?;
    let mut size = 0;
    loop {
        let (kind, body) = reply(stream)?;
        match kind {
            3 if body[..2] == [0, 0] => size = u64::from_be_bytes(body[2..10].try_into().expect("8 bytes")),
            3 => {}
            1 => return Ok((size, agreed)),
            other => {
                let text = String::from_utf8_lossy(&body).into_owned();
                return Err(io::Error::other(format!("server refuses export {export:?}: {other:#x} {text}")));
            }
        }
    }
}

fn option(stream: &mut impl Write, number: u32, data: &[u8]) -> io::Result<()> {
    let mut bytes = b"IHAVEOPT".to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    stream.write_all(&bytes)
}

fn reply(stream: &mut impl Read) -> io::Result<(u32, Vec<u8>)> {
    let mut header = [0u8; 20];
    stream.read_exact(&mut header)?;
    let length = u32::from_be_bytes(header[16..20].try_into().expect("4 bytes"));
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body)?;
    Ok((u32::from_be_bytes(header[12..16].try_into().expect("4 bytes")), body))
}
