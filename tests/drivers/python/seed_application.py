"""An application as the fourth seed has it: FastAPI, one pool, and a SELECT that names the tenant.

It knows nothing of Cloison: DATABASE_URL is all that there is to change.
"""

import os
import uuid

from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, ConfigDict
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=3, max_overflow=0)
sessions = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Lead(Base):
    __tablename__ = "crm_leads"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    tenant_id: Mapped[uuid.UUID] = mapped_column(server_default=text("get_current_tenant()"))
    full_name: Mapped[str]
    email: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="new")


class LeadIn(BaseModel):
    full_name: str
    email: str


class LeadOut(LeadIn):
    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    tenant_id: uuid.UUID
    status: str


async def tenant_session(x_tenant_id: str = Header()):
    async with sessions() as db:
        yield x_tenant_id, db


@app.get("/leads")
async def leads(context: tuple[str, AsyncSession] = Depends(tenant_session)) -> list[LeadOut]:
    tenant_id, db = context
    await db.execute(text(f"SELECT set_tenant('{tenant_id}')"))
    return (await db.scalars(select(Lead).order_by(Lead.id))).all()


@app.post("/leads")
async def add_lead(lead: LeadIn, context: tuple[str, AsyncSession] = Depends(tenant_session)) -> LeadOut:
    tenant_id, db = context
    await db.execute(text(f"SELECT set_tenant('{tenant_id}')"))
    row = Lead(**lead.model_dump())
    db.add(row)
    await db.flush()
    await db.refresh(row)
    await db.commit()
    return row


@app.delete("/leads/{lead_id}")
async def remove_lead(lead_id: uuid.UUID, context: tuple[str, AsyncSession] = Depends(tenant_session)) -> dict:
    tenant_id, db = context
    await db.execute(text(f"SELECT set_tenant('{tenant_id}')"))
    row = await db.get(Lead, lead_id)
    if row is None:
        raise HTTPException(404)
    await db.delete(row)
    await db.commit()
    return {"removed": str(lead_id)}


@app.get("/forgetful")
async def forgetful(context: tuple[str, AsyncSession] = Depends(tenant_session)) -> int:
    """Somebody has forgotten the SELECT."""
    _, db = context
    return await db.scalar(select(func.count()).select_from(Lead))
