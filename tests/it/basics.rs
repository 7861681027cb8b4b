//! The main job: a token in, one tenant's rows out.

use crate::support::postgres::{A, B};
use crate::support::proxy;

#[tokio::test]
async fn each_tenant_sees_its_own_rows() {
    let proxy = proxy::new().run().await;
    for (tenant, rows) in [(A, 3), (B, 5), ("a", 3), ("b", 5)] {
        let client = proxy.tenant(tenant).await;
        let found = client.query("select tenant_id, body from note", &[]).await.unwrap();
        assert_eq!(found.len(), rows, "{tenant}");
    }
    proxy.stop().await;
}
