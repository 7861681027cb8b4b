//! The proxy's own work, without sockets: cutting frames, checking a token, making a bind.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up has no result")]

use std::fs;
use std::hint::black_box;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use cloison::auth::Verifier;
use cloison::config;
use cloison::dev::key::SigningKey;
use cloison::guard::{Guard, Policy};
use cloison::protocol::{Frame, Header};
use cloison::statement::Lexis;
use cloison::tenant::bind::{LocalBind, Signer};
use cloison::types::{Access, ProcessMark, TenantId};
use criterion::{BatchSize, Criterion, Throughput};
use serde_json::json;

const TENANT: &str = "0198c7a2-5d2c-7c11-9b0a-3f1f6a0d9e11";

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    frames(&mut criterion);
    token(&mut criterion);
    bind(&mut criterion);
    guard(&mut criterion);
    criterion.final_summary();
}

/// The answer to a SELECT: a description, `rows` rows of 64 bytes, a tag, ready.
fn answer(rows: usize) -> BytesMut {
    let mut buffer = BytesMut::new();
    let mut put = |tag: u8, body: &[u8]| {
        buffer.put_u8(tag);
        buffer.put_u32(body.len() as u32 + 4);
        buffer.put_slice(body);
    };
    put(b'T', &[1; 28]);
    for _ in 0..rows {
        put(b'D', &[2; 64]);
    }
    put(b'C', b"SELECT 1\0");
    put(b'Z', b"I");
    buffer
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frames");
    for rows in [1, 100] {
        let answer = answer(rows);
        group.throughput(Throughput::Bytes(answer.len() as u64));
        group.bench_function(format!("walk the headers of {rows} rows"), |bencher| {
            bencher.iter(|| {
                let mut rest = black_box(&answer[..]);
                let mut rows = 0;
                while let Some(header) = Header::parse(rest).unwrap() {
                    rows += usize::from(header.tag == b'D');
                    rest = &rest[header.frame_len()..];
                }
                rows
            });
        });
        group.bench_function(format!("cut the frames of {rows} rows"), |bencher| {
            bencher.iter(|| {
                let mut buffer = answer.clone();
                let mut rows = 0;
                while let Some(frame) = Frame::split_from(&mut buffer, 1 << 20).unwrap() {
                    rows += usize::from(frame.tag == b'D');
                }
                rows
            });
        });
    }
    group.finish();
}

fn token(criterion: &mut Criterion) {
    let key = SigningKey::generate().unwrap();
    let file = std::env::temp_dir().join(format!("cloison-bench-{}.json", std::process::id()));
    fs::write(&file, key.jwks().to_string()).unwrap();
    let rules = format!(
        r#"
        [server]
        database = "app"
        [control]
        user = "control"
        [pools.tenant]
        user = "tenant"
        [issuers.bench]
        issuer = "bench"
        audience = "bench"
        algorithms = ["ES256"]
        jwks_file = "{}"
        "#,
        file.display()
    );
    let config = config::parse(&rules, std::iter::empty()).unwrap();
    let now = SystemTime::now();
    let expires = now.duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600;
    let claims = json!({
        "iss": "bench", "aud": "bench", "sub": "bench", "exp": expires, "tenant_id": TENANT,
    });
    let token = key.mint(claims.as_object().unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let verify = |verifier: &Verifier| {
        runtime.block_on(verifier.verify(&token, Access::Tenant, now)).unwrap();
    };
    criterion.bench_function("token, ES256", |bencher| {
        // One that has seen no token yet.
        let verifier = || Verifier::new(&config.issuers).unwrap();
        bencher.iter_batched(verifier, |verifier| verify(&verifier), BatchSize::SmallInput);
    });
    criterion.bench_function("token, ES256, known", |bencher| {
        let verifier = Verifier::new(&config.issuers).unwrap();
        bencher.iter(|| verify(&verifier));
    });
    fs::remove_file(file).unwrap();
}

fn bind(criterion: &mut Criterion) {
    let signer = Signer::new(&[7; 32], true);
    let tenant: TenantId = TENANT.parse().unwrap();
    let mut buffer = BytesMut::with_capacity(1024);
    let now = SystemTime::now();
    let process = ProcessMark::default();
    let statement = LocalBind::new("_cloison_0123456789abcdef".to_owned());
    criterion.bench_function("bind, a transaction", |bencher| {
        bencher.iter(|| {
            buffer.clear();
            signer.bind_local(black_box(tenant), None, process, &statement, now, &mut buffer);
            buffer.len()
        });
    });
    criterion.bench_function("bind, a session", |bencher| {
        bencher.iter(|| {
            buffer.clear();
            signer.bind(black_box(tenant), None, (now, now), process, &mut buffer).unwrap();
            buffer.len()
        });
    });
}

fn guard(criterion: &mut Criterion) {
    const SHORT: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = ";
    const LONG: &str = "SELECT p.id, p.name, count(t.id) AS n FROM projects p \
        LEFT JOIN tasks t ON t.project_id = p.id WHERE p.status = $1 AND p.owner_id = $2 \
        AND t.due > now() - interval '7 days' GROUP BY p.id, p.name ORDER BY p.name LIMIT ";
    let lexis = Lexis { standard_strings: true, safe_encoding: true };
    let policy = || Policy { longest: 1 << 20, ..Policy::default() };
    for (name, text) in [("short", SHORT), ("long", LONG)] {
        let guard = Guard::new(policy());
        criterion.bench_function(&format!("guard, a {name} statement, seen before"), |bencher| {
            let text = format!("{text}1");
            bencher.iter(|| guard.judge(black_box(text.as_bytes()), lexis).is_ok());
        });
        criterion.bench_function(&format!("guard, a {name} statement, new"), |bencher| {
            let mut number = 0_u64;
            bencher.iter(|| {
                number += 1;
                let text = format!("{text}{number}");
                guard.judge(black_box(text.as_bytes()), lexis).is_ok()
            });
        });
    }
}
