//! The page of the server, as somebody uses it.

use super::driver::Browser;
use super::*;

const ROWS: &str = "[...document.querySelectorAll('#log li')].map((row) => row.lastChild.textContent)";

#[tokio::test(flavor = "multi_thread")]
async fn the_page_adds_shows_and_cancels_tasks() {
    let site = Site::new().await;
    let server = served(&site).await;
    let browser = Browser::start().await;
    // Nothing is shown to who has no token.
    browser.open(&server.url()).await;
    browser.until("!document.querySelector('#login').hidden && document.querySelector('main').hidden").await;
    browser.open("about:blank").await;
    browser.open(&format!("{}/#token={TOKEN}", server.url())).await;
    browser.until("document.querySelectorAll('#add option').length === 5").await;
    assert_eq!(browser.run("return location.hash").await, "", "the token does not stay in the address");

    browser
        .run(
            "const form = document.querySelector('#add');
             form.elements.task.value = 'gated';
             form.elements.args.value = '{\"n\": 2}';
             form.requestSubmit();",
        )
        .await;
    site.gate.add_permits(1);
    browser.until(&format!("{ROWS}.length === 2 && {ROWS}[1] === '0'")).await;
    browser.until("document.querySelector('#status').textContent === 'running'").await;
    site.gate.add_permits(1);
    browser.until("document.querySelector('#status').textContent === 'completed'").await;
    browser.until(&format!("document.querySelector('#live').textContent === 'ended' && {ROWS}.length === 4")).await;
    assert_eq!(browser.run(&format!("return {ROWS}[2]")).await, "1");

    // Markup is text; and a task is cancelled by its button.
    let held = site.added(r#"{"task":"plus","args":[1],"held":true,"tags":["<img src=x>"]}"#).await;
    browser.run(&format!("location.hash = '{held}'")).await;
    browser.until("document.querySelector('#status').textContent === 'held'").await;
    let seen = "return [document.querySelector('#record').textContent.includes('<img src=x>'), document.images.length]";
    assert_eq!(browser.run(seen).await, serde_json::json!([true, 0]));
    browser.run("document.querySelector('[data-verb=cancel]').click()").await;
    browser.until(&format!("{ROWS}.at(-1) === 'cancelled from the dashboard'")).await;
    let record = site.app.task(held.parse().unwrap()).await.unwrap().record().await.unwrap();
    assert_eq!(record.status, qtasks::Status::Cancelled);
    browser.until("document.querySelector('#counts').textContent.includes('cancelled 1')").await;
    site.app.shutdown().await.unwrap();
}
