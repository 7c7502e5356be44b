//! A process that the suite kills: a worker, or one that watches. Its one argument says what it is to do.
#![expect(clippy::unwrap_used, reason = "a process whose panics fail a test")]

mod broken;
mod orders;
mod pass;
mod probe;
mod tasks;
mod values;
mod watch;
mod witness;

use std::sync::Arc;
use std::time::Duration;

use qtasks::{Builder, Qtasks};

use orders::{Broken, LEASE, Orders, Role, SCAN};
use probe::{Probe, Probed};
use witness::{Said, Witness};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let orders = std::env::args().nth(1).expect("orders, as JSON");
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    std::thread::spawn(|| {
        // Nothing comes; when it ends, nobody is there any more who could end this process.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
    match orders.role {
        Role::Work => work(&orders).await,
        Role::Watch => watch(&orders).await,
    }
}

fn builder(orders: &Orders) -> Builder {
    Qtasks::builder().lease(LEASE).scan(SCAN).crashes(orders.crashes_max).worker_name(&orders.name)
}

fn witness(orders: &Orders, name: &str) -> Witness {
    Witness::open(&orders.dir.join(format!("{name}.witness"))).unwrap()
}

async fn work(orders: &Orders) {
    tasks::testify(witness(orders, &orders.name));
    let probe = Probe::new(orders);
    let store = broken::within(qtasks::store::open(&orders.url).await.unwrap(), orders.broken);
    let store = broken::without(Arc::new(Probed { store, probe }), orders.broken);
    let app = builder(orders).with_store(store).concurrency(orders.concurrency).grace(Duration::from_millis(200));
    let app = app.start().await.unwrap();
    if orders.broken == Some(Broken::Early) {
        let (app, name) = (app.clone(), format!("{}-watch", orders.name));
        let (witness, over) = (witness(orders, &name), orders.dir.join("over"));
        tokio::spawn(async move { watch::watch(&app, witness, &over).await });
    }
    app.run().await.unwrap();
    tasks::say(Said::Left);
}

async fn watch(orders: &Orders) {
    let store = broken::within(qtasks::store::open(&orders.url).await.unwrap(), orders.broken);
    let app = builder(orders).with_store(store).open().await.unwrap();
    watch::watch(&app, witness(orders, &orders.name), &orders.dir.join("over")).await;
    app.shutdown().await.unwrap();
}
