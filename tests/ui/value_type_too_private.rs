mod rows {
    use qtasks::prelude::*;
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Row(i64);
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Query(i64);
    struct Db;
    #[task]
    pub async fn yielded(n: i64) -> Row {
        yield_!(Row(n));
    }
    #[task]
    pub async fn returned(n: i64) -> Result<Row, String> {
        Ok(Row(n))
    }
    #[task]
    pub async fn arguments_are_free(query: Query, db: State<Db>) -> i64 {
        let _ = db;
        query.0
    }
}
fn main() {
    let _ = rows::yielded::add_task(1);
}
