//! The look-up of the service for a host and a path, among few and many.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use cutover::table::Routes;

use super::admission::SIZES;
use super::scene;

pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("find");
    for hosts in SIZES {
        let routes = Routes::new(&scene::config(hosts, 1).services);
        let n = hosts / 2;
        for (what, host, path) in [
            ("exact", format!("s{n}.test"), "/"),
            ("port-and-case", format!("S{n}.Test:8080"), "/"),
            ("wildcard", format!("a.b.s{n}.test"), "/"),
            ("path", format!("s{n}.test"), "/deep/path/and/further"),
            ("nobody", "unknown.example".to_owned(), "/"),
        ] {
            group.bench_function(BenchmarkId::new(what, hosts), |bencher| {
                bencher.iter(|| routes.find(black_box(&host), black_box(path)));
            });
        }
    }
}
