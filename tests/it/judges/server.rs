//! A server on this machine that speaks the chat protocol, and its faults.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Request {
    /// What the judge is asked.
    pub fn prompt(&self) -> &str {
        self.body["messages"][0]["content"].as_str().unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// What the server does with a request.
pub enum Answer {
    Json(Value),
    /// Status, headers, body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// The connection ends in the middle of the body.
    Truncated,
    /// It ends before anything is said.
    Closed,
    /// Nothing is said for so long.
    Slow(Duration),
}

/// A reply without log-probabilities.
pub fn text(content: &str) -> Answer {
    Answer::Json(json!({
        "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 2},
    }))
}

/// A reply with the first token's alternatives as probabilities.
pub fn weighted(content: &str, first: &[(&str, f64)]) -> Answer {
    let top: Vec<Value> = first.iter().map(|(t, p)| json!({"token": t, "logprob": p.ln()})).collect();
    Answer::Json(json!({
        "choices": [{
            "message": {"role": "assistant", "content": content},
            "logprobs": {"content": [{"token": first[0].0, "logprob": first[0].1.ln(), "top_logprobs": top}]},
        }],
        "usage": {"prompt_tokens": 100, "completion_tokens": 1},
    }))
}

pub struct Server {
    pub url: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `answer` gets the number of the request, from 0, and the request.
    pub fn start(answer: impl Fn(usize, &Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (all, answer) = (Arc::clone(&seen), Arc::new(answer));
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (all, answer) = (Arc::clone(&all), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    let number = {
                        let mut all = all.lock().unwrap();
                        all.push(request.clone());
                        all.len() - 1
                    };
                    write(stream, answer(number, &request));
                });
            }
        });
        Self { url, seen }
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_string();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_string()));
    }
    let length = headers.iter().find(|(n, _)| n == "content-length")?.1.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { path, headers, body: serde_json::from_slice(&body).ok()? })
}

fn write(mut stream: TcpStream, answer: Answer) {
    let (status, headers, body) = match answer {
        Answer::Json(value) => (200, Vec::new(), value.to_string()),
        Answer::Status(status, headers, body) => (status, headers, body),
        Answer::Truncated => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"choices\": [{\"mess");
            return;
        }
        Answer::Closed => return,
        Answer::Slow(time) => return std::thread::sleep(time),
    };
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
    // The client may have gone.
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}
