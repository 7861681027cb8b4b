# Everyday work of ActiveRecord: a migration as the owner, and its models as two tenants.
# frozen_string_literal: true

require 'active_record'
require_relative 'stand'

TABLE = named('active_record_notes')

# Both pool modes run at once, in one database: each has its own record of its migrations.
ActiveRecord::Base.schema_migrations_table_name = named('active_record_migrations')

# Each tenant has models, and a pool, of its own.
class TenantA < ActiveRecord::Base
  self.abstract_class = true
end

class TenantB < ActiveRecord::Base
  self.abstract_class = true
end

class LeadOfA < TenantA
  self.table_name = 'crm_leads'
  # Its key is the tenant and this.
  self.primary_key = 'id'
end

class LeadOfB < TenantB
  self.table_name = 'crm_leads'
  # Its key is the tenant and this.
  self.primary_key = 'id'
end

class NoteOfA < TenantA
  self.table_name = TABLE
end

class NoteOfB < TenantB
  self.table_name = TABLE
end

# Two of the owner's migrations: a table, which is protected as it is made, and a column more.
class MakeNotes < ActiveRecord::Migration[6.1]
  def up
    create_table TABLE do |t|
      t.string :title, null: false
      t.text :tags, array: true, default: []
      t.jsonb :extra, default: {}
      t.timestamps
    end
    execute "select cloison.protect('#{TABLE}')"
    add_index TABLE, %i[tenant_id title], unique: true
  end

  def down
    drop_table TABLE
  end
end

class AddStars < ActiveRecord::Migration[6.1]
  disable_ddl_transaction!

  def change
    add_column TABLE, :stars, :integer, default: 3
    add_index TABLE, :stars, algorithm: :concurrently
  end
end

def refused(what, kind, state)
  yield
  check(what, 'accepted', kind)
rescue ActiveRecord::StatementInvalid => e
  check(what, [e.class, e.cause.result.error_field(PG::PG_DIAG_SQLSTATE)], [kind, state])
  e
end

def lines_of(url)
  # As long as the test may take: this machine may be busy.
  { url: url, pool: 3, checkout_timeout: 120, variables: { statement_timeout: '54321ms' } }
end

# A migration takes an advisory lock for its session.
def migrate(*migrations)
  of = ActiveRecord::Base.connection
  check('an advisory lock', of.get_advisory_lock(4711), true)
  check('and its end', of.release_advisory_lock(4711), true)
  list = migrations.each_with_index.map do |migration, n|
    ActiveRecord::MigrationProxy.new(migration.name, n + 1, __FILE__, nil).tap do |proxy|
      proxy.define_singleton_method(:load_migration) { migration.new(migration.name, n + 1) }
    end
  end
  schema = ActiveRecord::SchemaMigration
  schema.create_table
  ActiveRecord::Migration.verbose = false
  ActiveRecord::Migrator.new(:up, list, schema).migrate
  check('the migrations', schema.all_versions.map(&:to_i).max, migrations.length)
end

def unmake
  of = ActiveRecord::Base.connection
  [TABLE, ActiveRecord::Base.schema_migrations_table_name].each do |table|
    of.drop_table(table, if_exists: true)
  end
end

def everyday(side, lead, note)
  check('reads its own rows', lead.distinct.pluck(:tenant_id), [side.own])
  check('as the pool starts', lead.connection.select_value('show statement_timeout'), '54321ms')
  emails = Array.new(3) { |n| email('active_record', n) }
  emails.each do |email|
    made = lead.create!(full_name: 'AR', email: email)
    check('create', made.reload.tenant_id, side.own)
    check('where', lead.where(email: email).or(lead.where(email: nil)).pluck(:id), [made.id])
    lead.transaction do
      made.update!(status: 'won')
      refused('a unique violation', ActiveRecord::RecordNotUnique, '23505') do
        lead.transaction(requires_new: true) { lead.create!(full_name: 'AR', email: email) }
      end
      check('lock', made.lock!.status, 'won')
      raise ActiveRecord::Rollback
    end
    check('a rollback', made.reload.status, 'new')
  end
  check('destroy_by', lead.where(email: emails).destroy_all.length, emails.length)
  refused("another tenant's row", ActiveRecord::StatementInvalid, '42501') do
    lead.create!(tenant_id: side.other, full_name: 'x', email: 'x')
  end
  refused('a row moved to another tenant', ActiveRecord::StatementInvalid, '42501') { lead.update_all(tenant_id: side.other) }
  check('nothing of another tenant', lead.where(tenant_id: side.other).delete_all, 0)

  rows = Array.new(250) { |n| { title: "note #{n}", tags: ['é', "#{n}", 'q"{,}'], extra: { 'clé' => [n, nil] }, created_at: Time.at(n), updated_at: Time.at(n) } }
  check('insert_all', note.insert_all(rows).length, 250)
  check('insert_all, skipping', note.insert_all(rows.first(3)).length, 0)
  check('upsert_all', note.upsert_all([rows[0].merge(extra: { 'x' => 1 })], unique_by: note.connection.indexes(TABLE).find(&:unique).name).length, 1)
  seen = 0
  note.find_each(batch_size: 100) { seen += 1 }
  check('find_each', seen, 250)
  last = note.find_by!(title: 'note 7')
  check('arrays, JSON and times', [last.tags, last.extra, last.created_at.to_i], [['é', '7', 'q"{,}'], { 'clé' => [7, nil] }, 7])
  check('JSON in a condition', note.where("extra @> ?", { 'x' => 1 }.to_json).pluck(:title), ['note 0'])
  check('in_batches', note.in_batches(of: 100).update_all("tags = '{}'"), 250)
  check('sum and group', note.group(:tags).count, { [] => 250 })
  threads = Array.new(4) { |n| Thread.new { note.connection_pool.with_connection { note.where(title: "note #{n}").sum('1') } } }
  check('threads', threads.map(&:value), [1] * 4)
end

# Its statements were prepared before the owner's second migration.
def after_migration(side, note)
  check('a new column', note.find_by!(title: 'note 3').title, 'note 3')
  note.reset_column_information
  check('and its default', note.find_by!(title: 'note 3').stars, 3)
  check('its own', note.distinct.pluck(:tenant_id), [side.own])
  note.where(title: 'note 3').update_all(stars: 5)
  check('written', note.where(stars: 5).pluck(:title), ['note 3'])
end

# A lock is the same for all tenants; migrations belong on the owner's road.
def limits(side, lead)
  error = refused('an advisory lock', ActiveRecord::StatementInvalid, TRANSACTION ? '0A000' : '42501') do
    lead.connection.get_advisory_lock(4711)
  end
  check_in('says what it is about', TRANSACTION ? 'session_statements' : 'pg_try_advisory_lock', error.message)
  check('and goes on', lead.distinct.pluck(:tenant_id), [side.own])
end

ActiveRecord::Base.establish_connection(lines_of(ENV.fetch('OWNER_URL')))
migrate(MakeNotes)
TenantA.establish_connection(lines_of(SIDES[0].url))
TenantB.establish_connection(lines_of(SIDES[1].url))
models = [[SIDES[0], LeadOfA, NoteOfA], [SIDES[1], LeadOfB, NoteOfB]]
together(models) { |side, lead, note| everyday(side, lead, note) }
migrate(MakeNotes, AddStars)
models.each { |side, _, note| after_migration(side, note) }
models.each { |side, lead, _| limits(side, lead) }
unmake
finish
