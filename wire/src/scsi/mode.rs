//! Mode pages (SPC-4 7.5, SBC-3 6.5): MODE SENSE and MODE SELECT.
//!
//! Its one rule: a page is one table of bytes with one mask of what may be changed, for all four page
//! controls and for checking what is selected. Values are shared by all nexuses and not saved.

use super::command::ModeSense;
use super::{Geometry, Refusal, additional};

/// What can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Modes {
    /// D_SENSE: sense data in the descriptor format.
    pub descriptor_sense: bool,
    /// SWP: the initiators' own write protection.
    pub write_protect: bool,
    /// WCE.
    pub write_cache: bool,
}

impl Modes {
    pub fn default_of(geometry: &Geometry) -> Modes {
        Modes { descriptor_sense: false, write_protect: false, write_cache: geometry.write_cache }
    }
}

/// A mode page: its header, its bytes, and which bits of them MODE SELECT may change.
struct Page {
    page: u8,
    subpage: u8,
    current: Vec<u8>,
    changeable: Vec<u8>,
}

const READ_WRITE_ERROR_RECOVERY: u8 = 0x01;
const DISCONNECT_RECONNECT: u8 = 0x02;
const CACHING: u8 = 0x08;
const CONTROL: u8 = 0x0a;
const INFORMATIONAL_EXCEPTIONS: u8 = 0x1c;
const ALL: u8 = 0x3f;

const WCE: u8 = 0x04;
const D_SENSE: u8 = 0x04;
const SWP: u8 = 0x08;

/// The parameter data of MODE SENSE, not yet cut to the allocation length.
pub(super) fn sense(asked: &ModeSense, modes: &Modes, geometry: &Geometry) -> Result<Vec<u8>, Refusal> {
    let values = match asked.page_control {
        0 => |page: &Page| page.current.clone(),
        1 => |page: &Page| page.changeable.clone(),
        2 => |page: &Page| page.current.clone(),
        _ => return Err(Refusal::illegal(additional::SAVING_PARAMETERS_NOT_SUPPORTED)),
    };
    let shown = if asked.page_control == 2 { &Modes::default_of(geometry) } else { modes };
    let pages = select_pages(asked, pages(shown, geometry))?;
    let mut body = Vec::new();
    for page in pages {
        page.put_header(&mut body);
        body.extend(values(&page));
    }
    let descriptor = if asked.disable_block_descriptors {
        Vec::new()
    } else {
        block_descriptor(geometry, asked.long && asked.long_lba_accepted)
    };
    Ok(with_header(asked.long, &descriptor, &body, modes, geometry))
}

/// What MODE SELECT would change the modes to. Every bit that cannot be changed must stay as it is.
pub(super) fn select(long: bool, data: &[u8], modes: &Modes, geometry: &Geometry) -> Result<Modes, Refusal> {
    if data.is_empty() {
        return Ok(*modes);
    }
    let mut at = check_header(long, data, geometry)?;
    let known = pages(modes, geometry);
    let mut selected = *modes;
    while at < data.len() {
        let (page, header_bytes, length) = page_at(data, at, &known)?;
        let content_at = at + header_bytes;
        let content = data.get(content_at..content_at + length);
        let content = content.ok_or(Refusal::illegal(additional::PARAMETER_LIST_LENGTH_ERROR))?;
        page.check(content, content_at)?;
        page.apply(content, &mut selected);
        at = content_at + length;
    }
    Ok(selected)
}

fn pages(modes: &Modes, geometry: &Geometry) -> Vec<Page> {
    let mut caching = Page::new(CACHING, 0, 18);
    caching.flag(0, WCE, modes.write_cache, geometry.write_cache);

    let mut control = Page::new(CONTROL, 0, 10);
    control.flag(0, D_SENSE, modes.descriptor_sense, true);
    // GLTSD; unrestricted reordering.
    control.current[0] |= 0x02;
    control.current[1] = 0x10;
    control.flag(2, SWP, modes.write_protect, true);
    // BUSY TIMEOUT PERIOD: 30 s.
    control.current[6..8].copy_from_slice(&300_u16.to_be_bytes());

    let mut control_extension = Page::new(CONTROL, 1, 28);
    // IALUAE: access states change without being told to.
    control_extension.current[0] = 0x01;

    let mut exceptions = Page::new(INFORMATIONAL_EXCEPTIONS, 0, 10);
    // DEXCPT: none are reported.
    exceptions.current[0] = 0x08;

    let recovery = Page::new(READ_WRITE_ERROR_RECOVERY, 0, 10);
    let reconnect = Page::new(DISCONNECT_RECONNECT, 0, 14);
    vec![recovery, reconnect, caching, control, control_extension, exceptions]
}

fn select_pages(asked: &ModeSense, pages: Vec<Page>) -> Result<Vec<Page>, Refusal> {
    let is_page = |page: &Page| asked.page == ALL || page.page == asked.page;
    let is_subpage = |page: &Page| asked.subpage == 0xff || page.subpage == asked.subpage;
    if !pages.iter().any(is_page) {
        return Err(Refusal::cdb_field(2, Some(5)));
    }
    let selected: Vec<Page> = pages.into_iter().filter(|page| is_page(page) && is_subpage(page)).collect();
    // With all pages only "none" and "all" are subpages (SPC-4 table 159).
    if selected.is_empty() || (asked.page == ALL && !matches!(asked.subpage, 0 | 0xff)) {
        return Err(Refusal::cdb_field(3, None));
    }
    Ok(selected)
}

impl Page {
    fn new(page: u8, subpage: u8, length: usize) -> Page {
        Page { page, subpage, current: vec![0; length], changeable: vec![0; length] }
    }

    fn flag(&mut self, byte: usize, mask: u8, value: bool, can_change: bool) {
        self.current[byte] |= if value { mask } else { 0 };
        self.changeable[byte] |= if can_change { mask } else { 0 };
    }

    fn put_header(&self, out: &mut Vec<u8>) {
        let length = self.current.len() as u8;
        if self.subpage == 0 {
            out.extend_from_slice(&[self.page, length]);
        } else {
            out.extend_from_slice(&[0x40 | self.page, self.subpage, 0, length]);
        }
    }

    /// Refuses `content` that differs where it may not; it lies at `at` in the parameter list.
    fn check(&self, content: &[u8], at: usize) -> Result<(), Refusal> {
        for (offset, (new, (current, mask))) in
            content.iter().zip(self.current.iter().zip(&self.changeable)).enumerate()
        {
            let differing = (new ^ current) & !mask;
            if differing != 0 {
                return Err(bad_bit(at + offset, 7 - differing.leading_zeros() as u8));
            }
        }
        Ok(())
    }

    fn apply(&self, content: &[u8], modes: &mut Modes) {
        match (self.page, self.subpage) {
            (CACHING, 0) => modes.write_cache = content[0] & WCE != 0,
            (CONTROL, 0) => {
                modes.descriptor_sense = content[0] & D_SENSE != 0;
                modes.write_protect = content[2] & SWP != 0;
            }
            _ => {}
        }
    }
}

/// The page that begins at `at`, the size of its header, and its length, which must be ours.
fn page_at<'a>(data: &[u8], at: usize, known: &'a [Page]) -> Result<(&'a Page, usize, usize), Refusal> {
    let length_error = Refusal::illegal(additional::PARAMETER_LIST_LENGTH_ERROR);
    let (code, header_bytes, subpage, length_at) = match data[at..] {
        [code, _, ..] if code & 0x40 == 0 => (code & 0x3f, 2, 0, at + 1),
        [code, subpage, _, _, ..] => (code & 0x3f, 4, subpage, at + 3),
        _ => return Err(length_error),
    };
    let page = known.iter().find(|page| page.page == code && page.subpage == subpage);
    let page = page.ok_or(bad_bit(at, 5))?;
    let is_short = header_bytes == 2 || data[at + 2] == 0;
    if !is_short || usize::from(data[length_at]) != page.current.len() {
        return Err(bad_byte(length_at));
    }
    Ok((page, header_bytes, page.current.len()))
}

/// The mode parameter header and the block descriptors; answers where the pages begin.
fn check_header(long: bool, data: &[u8], geometry: &Geometry) -> Result<usize, Refusal> {
    let length_error = Refusal::illegal(additional::PARAMETER_LIST_LENGTH_ERROR);
    let (header_bytes, medium_type_at, long_lba, descriptor_bytes) = match *data {
        [_, _, _, _, flags, _, high, low, ..] if long => {
            (8, 2, flags & 1 != 0, usize::from(u16::from_be_bytes([high, low])))
        }
        [_, _, _, length, ..] if !long => (4, 1, false, usize::from(length)),
        _ => return Err(length_error),
    };
    if data[medium_type_at] != 0 {
        return Err(bad_byte(medium_type_at));
    }
    let end = header_bytes + descriptor_bytes;
    let descriptor = data.get(header_bytes..end).ok_or(length_error)?;
    match (descriptor, long_lba) {
        ([], _) => {}
        ([b0, b1, b2, b3, _, l0, l1, l2], false) => {
            let blocks = u32::from_be_bytes([*b0, *b1, *b2, *b3]);
            let same = blocks == 0 || blocks == u32::MAX || u64::from(blocks) == geometry.blocks;
            check_descriptor(same, u32::from_be_bytes([0, *l0, *l1, *l2]), header_bytes, 5, geometry)?;
        }
        ([b0, b1, b2, b3, b4, b5, b6, b7, _, _, _, _, l0, l1, l2, l3], true) => {
            let blocks = u64::from_be_bytes([*b0, *b1, *b2, *b3, *b4, *b5, *b6, *b7]);
            let same = blocks == 0 || blocks == u64::MAX || blocks == geometry.blocks;
            check_descriptor(same, u32::from_be_bytes([*l0, *l1, *l2, *l3]), header_bytes, 12, geometry)?;
        }
        _ => return Err(bad_byte(header_bytes - 1)),
    }
    Ok(end)
}

/// Neither the number nor the length of blocks can be changed.
fn check_descriptor(
    same_blocks: bool,
    block_bytes: u32,
    at: usize,
    length_offset: usize,
    geometry: &Geometry,
) -> Result<(), Refusal> {
    match (same_blocks, block_bytes == geometry.block_bytes) {
        (true, true) => Ok(()),
        (false, _) => Err(bad_byte(at)),
        (true, false) => Err(bad_byte(at + length_offset)),
    }
}

/// SBC-3 6.5.2: the short descriptor has 32 bits for the number of blocks, and all ones for more.
fn block_descriptor(geometry: &Geometry, long_lba: bool) -> Vec<u8> {
    let mut descriptor = Vec::with_capacity(16);
    if long_lba {
        descriptor.extend_from_slice(&geometry.blocks.to_be_bytes());
        descriptor.extend_from_slice(&[0; 4]);
    } else {
        descriptor.extend_from_slice(&u32::try_from(geometry.blocks).unwrap_or(u32::MAX).to_be_bytes());
    }
    // In the short one three bytes of block length follow a reserved one.
    descriptor.extend_from_slice(&geometry.block_bytes.to_be_bytes());
    descriptor
}

fn with_header(long: bool, descriptor: &[u8], body: &[u8], modes: &Modes, geometry: &Geometry) -> Vec<u8> {
    const WP: u8 = 0x80;
    const DPOFUA: u8 = 0x10;
    let protected = if modes.write_protect || geometry.read_only { WP } else { 0 };
    let specific = DPOFUA | protected;
    let mut data = if long {
        let length = (6 + descriptor.len() + body.len()) as u16;
        let [high, low] = length.to_be_bytes();
        let long_lba = u8::from(descriptor.len() == 16);
        vec![high, low, 0, specific, long_lba, 0, 0, descriptor.len() as u8]
    } else {
        let length = (3 + descriptor.len() + body.len()) as u8;
        vec![length, 0, specific, descriptor.len() as u8]
    };
    data.extend_from_slice(descriptor);
    data.extend_from_slice(body);
    data
}

fn bad_byte(at: usize) -> Refusal {
    Refusal::parameter_field(u16::try_from(at).unwrap_or(u16::MAX), None)
}

fn bad_bit(at: usize, bit: u8) -> Refusal {
    Refusal::parameter_field(u16::try_from(at).unwrap_or(u16::MAX), Some(bit))
}
