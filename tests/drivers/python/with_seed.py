"""The fourth seed's application, unchanged: one pool for two tenants, many requests at once."""

import asyncio
import os
import random

from stand import A, B, check, finish

os.environ["DATABASE_URL"] = os.environ["SERVICE_URL"].replace("postgres://", "postgresql+asyncpg://")

import httpx  # noqa: E402

import seed_application  # noqa: E402

ROUNDS = 40
MODE = os.environ["POOL_MODE"]


async def visitor(client, tenant, number):
    """Says how many rows it saw, each of them its own tenant's."""
    seen = 0
    who = {"X-Tenant-Id": tenant}
    for n in range(ROUNDS):
        lead = {"full_name": f"visitor {number}", "email": f"seed-{tenant}-{MODE}-{number}-{n}@example.org"}
        answer = await client.post("/leads", json=lead, headers=who)
        assert answer.status_code == 200, answer.text
        mine = answer.json()
        assert mine["tenant_id"] == tenant, mine
        await asyncio.sleep(random.random() / 500)
        rows = (await client.get("/leads", headers=who)).json()
        assert {row["tenant_id"] for row in rows} == {tenant}, rows
        assert mine["id"] in {row["id"] for row in rows}
        seen += len(rows)
        other = {"X-Tenant-Id": B if tenant == A else A}
        assert (await client.delete(f"/leads/{mine['id']}", headers=other)).status_code == 404
        assert (await client.delete(f"/leads/{mine['id']}", headers=who)).status_code == 200
    return seen


async def main():
    transport = httpx.ASGITransport(app=seed_application.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://seed") as client:
        visitors = [visitor(client, tenant, number) for number in range(4) for tenant in (A, B)]
        seen = await asyncio.gather(*visitors)
        check("rows of their own, and no others", all(count >= ROUNDS for count in seen), True)
        for tenant in (A, B):
            try:
                answer = await client.get("/leads", headers={"X-Tenant-Id": "c0000000-0000-4000-8000-000000000001"})
                check("a tenant that the token does not list", answer.text, "refused")
            except Exception as error:
                check("a tenant that the token does not list", error.orig.sqlstate, "42501")
    await seed_application.engine.dispose()
    # A new pool: nobody was chosen on any of its connections.
    async with httpx.AsyncClient(transport=transport, base_url="http://seed") as client:
        for _ in range(5):
            try:
                answer = await client.get("/forgetful", headers={"X-Tenant-Id": A})
                check("no choice, no rows", answer.text, "refused")
            except Exception as error:
                check("no choice, no rows", error.orig.sqlstate, "42501")
    await seed_application.engine.dispose()


asyncio.run(main())
finish()
