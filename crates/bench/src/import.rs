//! `import`: devices created a hundred at a time, over some connections that stay open.

use crate::target::{connector, device_key, expiry};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const BATCH: u64 = 100;
const ANSWER_TIME: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 64 << 20;

#[derive(clap::Args)]
pub struct Import {
    /// Addresses of HTTPS listeners, with commas
    #[arg(long, value_delimiter = ',', required = true)]
    address: Vec<SocketAddr>,
    #[arg(long)]
    ca: PathBuf,
    #[arg(long)]
    host: String,
    /// The policy iothubowner's key
    #[arg(long)]
    key: String,
    #[arg(long, default_value = "bench")]
    prefix: String,
    /// The first device's number
    #[arg(long, default_value_t = 0)]
    from: u64,
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    count: u64,
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
}

struct Work {
    import: Import,
    token: String,
    next: AtomicU64,
}

impl Import {
    pub fn run(self) -> Result<Value, String> {
        crate::sessions::runtime(1)?.block_on(self.create())
    }

    async fn create(self) -> Result<Value, String> {
        let connector = connector(&self.ca)?;
        let token = wire::sas::make(&self.host, &self.key, Some("iothubowner"), expiry());
        let (count, connections) = (self.count, self.connections);
        let work = Arc::new(Work {
            next: AtomicU64::new(self.from),
            token,
            import: self,
        });
        let begun = Instant::now();
        let mut tasks = Vec::new();
        for number in 0..usize::from(connections) {
            let (work, connector) = (work.clone(), connector.clone());
            tasks.push(tokio::spawn(async move {
                let address = work.import.address[number % work.import.address.len()];
                let fail = |error: std::io::Error| format!("{address}: {error}");
                let tcp = TcpStream::connect(address).await.map_err(fail)?;
                tcp.set_nodelay(true).map_err(fail)?;
                let mut stream = connector
                    .connect(ServerName::IpAddress(address.ip().into()), tcp)
                    .await
                    .map_err(fail)?;
                create_until_done(&work, &mut stream).await
            }));
        }
        for task in tasks {
            task.await.map_err(|error| error.to_string())??;
        }
        let seconds = begun.elapsed().as_secs_f64();
        Ok(
            json!({"devices": count, "connections": connections, "seconds": seconds, "devices_per_s": count as f64 / seconds}),
        )
    }
}

async fn create_until_done(work: &Work, stream: &mut TlsStream<TcpStream>) -> Result<(), String> {
    let end = work.import.from + work.import.count;
    loop {
        let first = work.next.fetch_add(BATCH, Ordering::Relaxed);
        if first >= end {
            return Ok(());
        }
        let request = request(work, first, end.min(first + BATCH));
        let answer = tokio::time::timeout(ANSWER_TIME, ask(stream, &request)).await;
        let (status, body) = answer.map_err(|_| format!("no answer within {ANSWER_TIME:?}"))??;
        if status != 200 {
            let shown: String = body.chars().take(300).collect();
            return Err(format!("creating devices from {first}: {status} {shown}"));
        }
    }
}

fn request(work: &Work, first: u64, end: u64) -> Vec<u8> {
    let entries: Vec<Value> = (first..end)
        .map(|number| {
            let id = format!("{}-{number}", work.import.prefix);
            let key = device_key(&id);
            json!({"id": id, "importMode": "create", "status": "enabled",
                "authentication": {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": key}}})
        })
        .collect();
    let body = Value::Array(entries).to_string();
    let mut request = format!(
        "POST /devices?api-version=2021-04-12 HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        work.import.host,
        work.token,
        body.len()
    )
    .into_bytes();
    request.extend(body.into_bytes());
    request
}

/// One request and its answer on a connection that stays open.
pub async fn ask(
    stream: &mut TlsStream<TcpStream>,
    request: &[u8],
) -> Result<(u16, String), String> {
    let fail = |error: std::io::Error| format!("the connection broke: {error}");
    stream.write_all(request).await.map_err(fail)?;
    stream.flush().await.map_err(fail)?;
    let mut read = Vec::new();
    loop {
        if let Some(answer) = answer(&read)? {
            return Ok(answer);
        }
        if read.len() > ANSWER_BYTES_MAX {
            return Err("the answer does not end".into());
        }
        if stream.read_buf(&mut read).await.map_err(fail)? == 0 {
            return Err("the server closed the connection before it answered".into());
        }
    }
}

/// Status and body once all is there.
fn answer(bytes: &[u8]) -> Result<Option<(u16, String)>, String> {
    let Some(head_end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]);
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok());
    let status = status.ok_or("the answer is not HTTP")?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .ok_or("the answer has no length")?;
    let body = &bytes[head_end + 4..];
    Ok((body.len() >= length).then(|| {
        (
            status,
            String::from_utf8_lossy(&body[..length.min(body.len())]).into_owned(),
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_when_it_is_whole() {
        assert_eq!(answer(b"HTTP/1.1 200 OK\r\ncontent-"), Ok(None));
        assert_eq!(
            answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab"),
            Ok(None)
        );
        assert_eq!(
            answer(b"HTTP/1.1 400 Bad\r\ncontent-length: 2\r\n\r\nab"),
            Ok(Some((400, "ab".into())))
        );
        assert!(answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
