//! OpsWorks where AWS ended it: every command says so at once, and what to use instead, and asks nobody.

use super::stage::run;
use crate::harness::{Backend, Cutover, Service};

#[tokio::test]
async fn without_a_service_that_speaks_for_it_every_command_says_that_opsworks_has_ended() {
    let green = Backend::start("green").await;
    let service = |service: Service| {
        service.discover("blue", "opsworks = { stack = \"shop-blue\", port = 8080 }").green([&green])
    };
    let proxy = Cutover::with().service("shop", service).start_unready().await;
    for command in [
        &["list"][..],
        &["prepare", "blue"],
        &["clone", "blue"],
        &["start", "blue"],
        &["deploy", "blue", "--force", "x"],
        &["stop", "blue", "--force", "x"],
        &["abort"],
    ] {
        let ran = run(&proxy, command).await.assert_code(2);
        assert!(ran.stderr.contains("AWS ended OpsWorks Stacks on 26 May 2024"), "{command:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("use an Auto Scaling group"), "{command:?}: {}", ran.stderr);
    }
    for command in ["status", "history"] {
        let ran = run(&proxy, &[command]).await.assert_code(0);
        assert!(ran.stdout.contains("AWS ended OpsWorks Stacks on 26 May 2024"), "{command}: {}", ran.stdout);
    }
}

#[tokio::test]
async fn where_no_color_is_a_stack_the_way_to_name_one_is_shown() {
    let blue = Backend::start("blue").await;
    let proxy = Cutover::with().service("shop", |service| service.blue([&blue])).start().await;
    for command in [&["list"][..], &["prepare", "green"], &["status"], &["history"], &["abort"]] {
        let ran = run(&proxy, command).await.assert_code(2);
        assert!(ran.stderr.contains("no stack is known of shop: write `discover"), "{command:?}: {}", ran.stderr);
    }
}
