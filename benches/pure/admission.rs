//! From the table to a pass, and from there to an endpoint.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use cutover::time::Moment;

use super::scene;

pub fn bench(criterion: &mut Criterion) {
    admit(criterion);
    choose(criterion);
}

/// A look at the table, the service's place in it, through the turnstile and out again.
fn admit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("admit");
    let now = Moment::now();
    for hosts in SIZES {
        let lanes = scene::lanes(&scene::config(hosts, 1));
        let host = format!("s{}.test", hosts / 2);
        group.bench_function(BenchmarkId::from_parameter(hosts), |bencher| {
            bencher.iter(|| lanes.admit(black_box(&host), black_box("/"), now, |_| unreachable!()).is_ok());
        });
    }
}

/// The less busy of two random endpoints, one turn at a time.
fn choose(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("choose");
    for endpoints in SIZES {
        let lanes = scene::lanes(&scene::config(1, endpoints));
        let Ok(admission) = lanes.admit("s0.test", "/", Moment::now(), |_| unreachable!()) else {
            panic!("nobody serves s0.test")
        };
        group.bench_function(BenchmarkId::from_parameter(endpoints), |bencher| {
            bencher.iter(|| admission.lane.choose(black_box(&[])).is_some());
        });
    }
}

pub const SIZES: [usize; 4] = [1, 10, 100, 1000];
