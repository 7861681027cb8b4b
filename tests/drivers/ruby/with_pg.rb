# Everyday work of Ruby's pg, as two tenants at once, and the owner.
# frozen_string_literal: true

require 'pg'
require_relative 'stand'

def connected(url, &block)
  connection = PG.connect(url)
  block.call(connection)
ensure
  connection&.close
end

def sees(c)
  c.exec(ONLY).column_values(0)
end

def rolled_back(c)
  c.exec('begin')
  yield
  c.exec('rollback')
end

def refused(what, state)
  yield
  check(what, 'accepted', state)
rescue PG::Error => e
  check(what, e.result&.error_field(PG::PG_DIAG_SQLSTATE), state)
  e.result
end

def rows(side)
  connected(side.url) do |c|
    check('reads its own rows', sees(c), [side.own])
    rolled_back(c) do
      check('insert is given its tenant', c.exec_params(INSERT, ['pg', email('ruby', 0)]).getvalue(0, 0), side.own)
      got = c.exec_params('delete from crm_leads where tenant_id = $1', [side.other]).cmd_tuples
      check("nothing of another tenant's is deleted", got, 0)
      c.exec('savepoint one')
      refused('a unique violation', '23505') { c.exec_params(INSERT, ['pg', email('ruby', 0)]) }
      refused('a failed transaction', '25P02') { c.exec('select 1') }
      c.exec('rollback to one')
      check('goes on from the savepoint', sees(c), [side.own])
    end
    check('a rollback', c.exec_params('select from crm_leads where email = $1', [email('ruby', 0)]).ntuples, 0)
    refused("another tenant's row", '42501') do
      c.exec_params("insert into crm_leads (tenant_id, full_name, email) values ($1, 'x', 'x')", [side.other])
    end
    refused('a row moved to another tenant', '42501') { c.exec_params('update crm_leads set tenant_id = $1', [side.other]) }
    refused('an unknown column', '42703') { c.exec('select no_such from projects') }
    check('and goes on', sees(c), [side.own])
  end
end

def prepared(side)
  connected(side.url) do |c|
    c.type_map_for_results = PG::BasicTypeMapForResults.new(c)
    c.type_map_for_queries = PG::BasicTypeMapForQueries.new(c)
    text = "select tenant_id::text, $1::int8, $2::float8[], $3::timestamptz, $4::text[], $5::json, $6::bytea from projects limit 1"
    c.prepare('by its name', text)
    stamp = Time.at(1_772_323_199, 999_999, :usec)
    10.times do |n|
      values = [n << 40, [n + 0.5, 2.0], stamp, ['é', 'q"{,}', nil, ''], { 'clé' => [1, nil] }, PG::BasicTypeMapForQueries::BinaryData.new("\0\xFF\\".b)]
      got = c.exec_prepared('by its name', values).values[0]
      check('a prepared statement', got, [side.own, *values[0..4], "\0\xFF\\".b])
    end
    check('what it looks like', c.describe_prepared('by its name').nparams, 6)
    c.exec('deallocate "by its name"')
    refused('and gone', '26000') { c.exec_prepared('by its name', [1, [1.0], stamp, [], {}, '']) }
    check('and goes on', sees(c), [side.own])
  end
end

# Many statements on their way at once, with answers row by row.
def pipelines(side)
  connected(side.url) do |c|
    c.enter_pipeline_mode
    c.send_query_params('begin', [])
    200.times { |n| c.send_query_params(INSERT, ['pg', email('ruby', n)]) }
    c.send_query_params('rollback', [])
    c.pipeline_sync
    seen = []
    loop do
      result = c.get_result or next
      break if result.result_status == PG::PGRES_PIPELINE_SYNC

      seen.concat(result.check.column_values(0)) if result.ntuples.positive?
    end
    check('a pipeline', seen, [side.own] * 200)
    c.send_query_params('select 1 / $1::int', [0])
    c.send_query_params(ONLY, [])
    c.pipeline_sync
    states = []
    loop do
      result = c.get_result or next
      states << result.result_status
      break if result.result_status == PG::PGRES_PIPELINE_SYNC
    end
    check('an error in it', states, [PG::PGRES_FATAL_ERROR, PG::PGRES_PIPELINE_ABORTED, PG::PGRES_PIPELINE_SYNC])
    c.exit_pipeline_mode
    c.send_query('select p.tenant_id from generate_series(1, 2000), (select tenant_id from projects limit 1) p')
    c.set_single_row_mode
    count = 0
    c.get_result.stream_each_row { |row| count += 1 if row == [side.own] }
    check('row by row', count, 2000)
    c.get_result
    c.transaction do
      c.exec('declare c cursor for select tenant_id from projects')
      check('a cursor', c.exec('fetch all from c').column_values(0).uniq, [side.own])
    end
  end
end

def copying(side)
  connected(side.url) do |c|
    rolled_back(c) do
      c.copy_data('copy crm_leads (full_name, email) from stdin', PG::TextEncoder::CopyRow.new) do
        1000.times { |n| c.put_copy_data(['pg', email('ruby', n)]) }
      end
      got = c.exec_params('select count(*) from crm_leads where email like $1 and tenant_id = $2', [email('ruby', '%'), side.own])
      check('COPY FROM under its policies', got.getvalue(0, 0), '1000')
      out = []
      c.copy_data('copy (select tenant_id from crm_leads) to stdout') do
        while (line = c.get_copy_data)
          out << line.strip
        end
      end
      check('COPY TO', out.uniq, [side.own])
      refused("COPY FROM with another tenant's row", '42501') do
        c.copy_data('copy crm_leads (tenant_id, full_name, email) from stdin') { c.put_copy_data("#{side.other}\tx\tx\n") }
      end
    end
    check('and goes on', sees(c), [side.own])
  end
end

def sessions(side)
  connected("#{side.url}?application_name=with_pg&options=-c%20timezone%3DAsia/Tokyo") do |c|
    show = "select current_setting('application_name') || current_setting('timezone')"
    10.times { check('its startup parameters', c.exec(show).getvalue(0, 0), 'with_pgAsia/Tokyo') }
    c.exec("set timezone = 'America/Lima'")
    10.times { check('its SET', c.exec('show timezone').getvalue(0, 0), 'America/Lima') }
    canceller = Thread.new do
      sleep 0.3
      c.cancel
    end
    refused('a cancelled query', '57014') { c.exec('select pg_sleep(60)') }
    canceller.join
    check('after a cancel', sees(c), [side.own])
  end
  connected(side.session) do |c|
    c.exec("listen \"ruby #{side.name}\"")
    c.exec("notify \"ruby #{side.name}\", 'salut'")
    told = nil
    c.wait_for_notify(20) { |_, _, text| told = text }
    check('a notification', told, 'salut')
  end
  connected(TRANSACTION ? side.freed : side.url) do |c|
    refusal = refused('LISTEN', TRANSACTION ? '0A000' : '42501') { c.exec('listen news') }
    setting = TRANSACTION ? 'session_statements' : 'allowed_statements'
    check_in('the hint', setting, refusal.error_field(PG::PG_DIAG_MESSAGE_HINT))
    check('and goes on', sees(c), [side.own])
  end
  4.times do
    connected(side.narrow) do |c|
      c.prepare('s', "select '#{side.name}' || tenant_id from projects limit 1")
      4.times { check('its own statement', c.exec_prepared('s').getvalue(0, 0), side.name + side.own) }
      check('one server connection: its own rows', sees(c), [side.own])
    end
  end
end

# The owner changes a table under the tenants' prepared statements.
def migrating
  table = named('with_ruby_pg')
  connected(ENV.fetch('OWNER_URL')) do |owner|
    owner.exec("drop table if exists #{table}")
    owner.exec("begin; create table #{table} (id int generated always as identity, word text, n bigint); select cloison.protect('#{table}'); commit")
    connections = SIDES.map do |side|
      c = PG.connect(side.url)
      c.exec_params("insert into #{table} (word, n) values ($1, 7)", [side.name])
      c.prepare('some', "select word from #{table}")
      c.prepare('every', "select * from #{table}")
      3.times { check('before the change', [c.exec_prepared('some').values, c.exec_prepared('every').nfields], [[[side.name]], 4]) }
      c
    end
    owner.exec("alter table #{table} alter n type double precision, add extra text default 'new'")
    connections.zip(SIDES) do |c, side|
      check('a statement that the change does not touch', c.exec_prepared('some').values, [[side.name]])
      refused('a statement that it touches', '0A000') { c.exec_prepared('every') }
      c.exec('deallocate every')
      c.prepare('every', "select * from #{table}")
      row = c.exec_prepared('every')[0]
      check('prepared again', [row['word'], row['n'], row['extra']], [side.name, '7', 'new'])
      c.close
    end
    owner.exec("drop table #{table}")
  end
end

together do |side|
  rows(side)
  prepared(side)
  pipelines(side)
  copying(side)
  sessions(side)
end
migrating
begin
  PG.connect(ENV.fetch('EXPIRED_URL'))
  check('an expired token', 'accepted', 'refused')
rescue PG::Error => e
  check_in('an expired token', 'token has expired', e.message)
end
finish
