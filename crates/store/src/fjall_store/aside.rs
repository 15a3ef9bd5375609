//! Salvage: one file per salvage in a folder of its own, so that nothing that happens to the engine touches it.

use super::open::{io_failed, sync_folder};
use super::{Engine, FaultPoint, FjallStore, Writer};
use crate::salvage::{self, HEADER_BYTES};
use crate::{LogRecord, Salvage, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use types::{Epoch, Lsn, PartitionKey, UnixMillis};

const FOLDER: &str = "set-aside";
const ENDING: &str = ".log";
/// A salvage that is being written.
const UNFINISHED: &str = "unfinished.new";
const PAGE_BYTES: usize = 1 << 20;
/// Longest frame that is believed: a record of the engine's largest value.
const FRAME_BYTES_MAX: u32 = 1 << 30;

/// The files of the folder, by id.
pub(super) struct Aside {
    folder: PathBuf,
    kept: BTreeMap<String, Salvage>,
    /// Where the page read last ended: id, next record, offset in the file.
    cursor: Option<(String, Lsn, u64)>,
}

impl Aside {
    /// Lists the folder. A file that is not whole is left alone and said so; one that was never finished goes.
    pub(super) fn open(store: &Path) -> Result<Aside, StoreError> {
        let folder = store.join(FOLDER);
        let mut kept = BTreeMap::new();
        if folder.exists() {
            let doing = "listing what was set aside";
            let failed = |e: io::Error| io_failed(doing, &folder, &e);
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
                match name.strip_suffix(ENDING) {
                    Some(id) => match read_header(id, &path) {
                        Ok(salvage) => drop(kept.insert(id.to_owned(), salvage)),
                        Err(why) => {
                            tracing::error!(why, path = %path.display(), "a salvage cannot be read; its file is kept")
                        }
                    },
                    None if name.ends_with(".new") => fs::remove_file(&path).map_err(failed)?,
                    None => {}
                }
            }
        }
        Ok(Aside {
            folder,
            kept,
            cursor: None,
        })
    }

    pub(super) fn list(&self) -> Vec<Salvage> {
        salvage::sorted(self.kept.values().cloned().collect())
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        let frame = 4 + crate::format::RECORD_HEADER_BYTES as u64;
        let of = |s: &Salvage| HEADER_BYTES as u64 + s.bytes + s.records * frame;
        self.kept.values().map(of).sum()
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}{ENDING}"))
    }

    pub(super) fn read(
        &mut self,
        id: &str,
        from: Lsn,
        bytes_max: usize,
    ) -> Result<Vec<LogRecord>, StoreError> {
        let salvage = self.kept.get(id).ok_or_else(|| salvage::unknown(id))?;
        let (at, last) = (salvage.at, salvage.last);
        let from = from.max(salvage.first);
        let (mut lsn, mut offset) = match &self.cursor {
            Some((of, lsn, offset)) if of == id && *lsn <= from => (*lsn, *offset),
            _ => (salvage.first, HEADER_BYTES as u64),
        };
        let path = self.path(id);
        let bad = |lsn: Lsn, why: &str| StoreError::Corrupt {
            partition: at,
            at: lsn,
            why: format!("the salvage {id}: {why}"),
        };
        let broken = |lsn: Lsn, e: io::Error| match e.kind() {
            io::ErrorKind::UnexpectedEof => bad(lsn, "it is cut short"),
            _ => io_failed("reading a salvage", &path, &e),
        };
        let file = File::open(&path).map_err(|e| broken(lsn, e))?;
        let mut file = BufReader::new(file);
        file.seek(SeekFrom::Start(offset))
            .map_err(|e| broken(lsn, e))?;
        let mut page = Vec::new();
        let mut bytes = 0;
        while lsn <= last {
            let mut length = [0; 4];
            file.read_exact(&mut length).map_err(|e| broken(lsn, e))?;
            let length = u32::from_be_bytes(length);
            if length > FRAME_BYTES_MAX {
                return Err(bad(lsn, "a length is wrong"));
            }
            if lsn < from {
                file.seek_relative(i64::from(length))
                    .map_err(|e| broken(lsn, e))?;
            } else {
                bytes += length as usize;
                if !page.is_empty() && bytes > bytes_max {
                    break;
                }
                let mut frame = Vec::new();
                let read = (&mut file).take(u64::from(length)).read_to_end(&mut frame);
                if read.map_err(|e| broken(lsn, e))? != length as usize {
                    return Err(bad(lsn, "it is cut short"));
                }
                let record = salvage::decode_frame(at, lsn, Bytes::from(frame));
                page.push(record.map_err(|why| bad(lsn, why))?);
            }
            offset += 4 + u64::from(length);
            lsn = lsn.next();
        }
        self.cursor = Some((id.to_owned(), lsn, offset));
        Ok(page)
    }

    pub(super) fn discard(&mut self, id: &str) -> Result<bool, StoreError> {
        if !self.kept.contains_key(id) {
            return Ok(false);
        }
        let path = self.path(id);
        fs::remove_file(&path)
            .and_then(|()| sync_folder(&self.folder))
            .map_err(|e| io_failed("discarding a salvage", &path, &e))?;
        self.kept.remove(id);
        self.cursor = None;
        Ok(true)
    }

    fn create(&self) -> Result<(PathBuf, BufWriter<File>), StoreError> {
        let path = self.folder.join(UNFINISHED);
        let create = || {
            fs::create_dir_all(&self.folder)?;
            if let Some(parent) = self.folder.parent() {
                sync_folder(parent)?;
            }
            let mut file = BufWriter::with_capacity(1 << 16, File::create(&path)?);
            file.write_all(&[0; HEADER_BYTES])?;
            Ok(file)
        };
        let file = create().map_err(|e| io_failed("setting records aside", &path, &e))?;
        Ok((path, file))
    }

    /// Makes a written file the salvage of its name: from here on it is there.
    fn finish(
        &mut self,
        path: &Path,
        file: BufWriter<File>,
        salvage: Salvage,
    ) -> Result<Salvage, StoreError> {
        let finish = || {
            let mut file = file.into_inner().map_err(|e| e.into_error())?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&salvage::encode_header(&salvage))?;
            file.sync_all()?;
            fs::rename(path, self.path(&salvage.id))?;
            sync_folder(&self.folder)
        };
        finish().map_err(|e| io_failed("setting records aside", path, &e))?;
        self.kept.insert(salvage.id.clone(), salvage.clone());
        Ok(salvage)
    }
}

fn read_header(id: &str, path: &Path) -> Result<Salvage, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(HEADER_BYTES as u64).read_to_end(&mut bytes))
        .map_err(|e| e.to_string())?;
    salvage::decode_header(id, &bytes).map_err(str::to_owned)
}

impl FjallStore {
    pub(super) fn set_aside_on(
        &self,
        engine: &Engine,
        writer: &mut Writer,
        (at, after): (PartitionKey, Lsn),
        epoch: Epoch,
        made: UnixMillis,
    ) -> Result<Option<Salvage>, StoreError> {
        let Some(last) = engine.directory.read().readable(at, after.next())? else {
            return Ok(None);
        };
        let mut aside = self.aside.lock();
        let kept = aside.kept.values();
        if let Some(known) = salvage::known(kept, at, epoch, after.next(), Lsn(last)) {
            return Ok(Some(known));
        }
        let path = aside.folder.join(UNFINISHED);
        let done = self.write_aside(engine, writer, &mut aside, (at, after, last), (epoch, made));
        if done.is_err()
            && path.exists()
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(%error, path = %path.display(), "could not remove what was set aside in part");
        }
        done
    }

    fn write_aside(
        &self,
        engine: &Engine,
        writer: &mut Writer,
        aside: &mut Aside,
        (at, after, last): (PartitionKey, Lsn, u64),
        (epoch, made): (Epoch, UnixMillis),
    ) -> Result<Option<Salvage>, StoreError> {
        let (path, mut file) = aside.create()?;
        let mut summary: Option<Salvage> = None;
        let mut next = after.next();
        while next.0 <= last {
            let page = engine.read_log(at, next, PAGE_BYTES)?;
            let mut bytes = Vec::with_capacity(PAGE_BYTES);
            for record in &page {
                salvage::encode_frame(at, record, &mut bytes);
                let new = || Salvage::of(at, epoch, made, record);
                summary.get_or_insert_with(new).add(record);
                next = record.lsn.next();
            }
            let need = self.options.disk_reserve.saturating_add(bytes.len() as u64);
            writer.free_space.require(need)?;
            writer.free_space.wrote(bytes.len() as u64);
            file.write_all(&bytes)
                .map_err(|e| io_failed("setting records aside", &path, &e))?;
            if page.is_empty() {
                break;
            }
        }
        let Some(mut summary) = summary else {
            return Ok(None);
        };
        self.options.fault(FaultPoint::BeforeSetAside)?;
        summary.id = summary.free_id(|id| aside.path(id).exists())?;
        let done = aside.finish(&path, file, summary)?;
        self.options.fault(FaultPoint::AfterSetAside)?;
        Ok(Some(done))
    }
}
