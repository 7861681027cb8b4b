# What the Ruby scripts share: where everything is, and checks.
# frozen_string_literal: true

$stdout.sync = true

A = 'd0000000-0000-4000-8000-000000000001'
B = 'e0000000-0000-4000-8000-000000000001'

# A tenant, and the one it must never see. `url` is as everybody has it who changes nothing; `freed`
# is where tenants are given back what is tested for its own sake; there, `session` is where what
# needs a session works, too, and `narrow` has one server connection for both.
Side = Struct.new(:name, :own, :other, :url, :freed, :session, :narrow)

SIDES = [['A', A, B], ['B', B, A]].map do |name, own, other|
  Side.new(name, own, other, *%w[TENANT FREED SESSION NARROW].map { |kind| ENV.fetch("#{kind}_#{name}_URL") })
end
# Each transaction gets another server connection, and other clients keep them moving.
TRANSACTION = ENV.fetch('POOL_MODE') == 'transaction'
ONLY = 'select distinct tenant_id::text from projects union select distinct tenant_id::text from crm_leads'
INSERT = 'insert into crm_leads (full_name, email) values ($1, $2) returning tenant_id'

$passed = 0

def check(what, got, expected)
  unless got == expected
    puts "FAILED  #{what}: expected #{expected.inspect}, got #{got.inspect}"
    exit!(1)
  end
  $passed += 1
  puts "ok  #{what}"
end

def check_in(what, part, whole)
  check(what, whole.include?(part) ? part : whole, part)
end

# Both pool modes run at once, in one database.
def named(prefix)
  "#{prefix}_#{ENV.fetch('POOL_MODE')}"
end

def email(client, n)
  "#{n}@#{named(client)}.example.org"
end

Thread.report_on_exception = false

# All of them at once.
def together(several = SIDES, &work)
  several.map { |one| Thread.new { one.is_a?(Side) ? work.call(one) : work.call(*one) } }.each(&:join)
rescue StandardError => e
  puts "FAILED  #{e.full_message(highlight: false, order: :top)}"
  exit!(1)
end

def finish
  puts "passed #{$passed}"
end
