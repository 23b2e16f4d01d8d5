# Ruby's pg. What a step has to do and to return is told in ../python/script.py.
require 'json'
require 'pg'

COPIED = 100_000
LARGE_ROWS = "SELECT g, repeat('x', 100) FROM generate_series(1, 100000) AS g"
STEPS = %i[connect parameters prepared commit rollback savepoint copy large cancel notify]

$stdout.sync = true

def say(**line)
  puts JSON.generate(line)
end

# libpq reads the environment.
class Client
  def connected
    PG.connect.tap { |connection| connection.type_map_for_results = PG::BasicTypeMapForResults.new(connection) }
  end

  def one(query, arguments = [])
    row = @connection.exec_params(query, arguments).values.first
    row.length == 1 ? row.first : row
  end

  def count(step)
    one('SELECT count(*) FROM items WHERE step = $1', [step])
  end

  def insert(step)
    @connection.exec_params('INSERT INTO items VALUES ($1)', [step])
  end

  def connect
    @connection = connected
    one("SELECT current_setting('application_name')")
  end

  def parameters
    one('SELECT $1::int + 1, $2::text', [41, "naïve 'quoted'"])
  end

  def prepared
    @connection.prepare('double', 'SELECT $1::int * 2')
    [21, 4].map { |number| @connection.exec_prepared('double', [number]).getvalue(0, 0) }
  end

  def commit
    @connection.transaction { insert('commit') }
    count('commit')
  end

  def rollback
    @connection.transaction do
      insert('rollback')
      @connection.exec('SELECT 1 / 0')
    end
  rescue PG::DivisionByZero => e
    [e.result.error_field(PG::PG_DIAG_SQLSTATE), count('rollback')]
  end

  def savepoint
    @connection.transaction do
      insert('savepoint')
      @connection.exec('SAVEPOINT here')
      insert('savepoint')
      begin
        @connection.exec('SELECT 1 / 0')
      rescue PG::DivisionByZero
        @connection.exec('ROLLBACK TO here')
      end
    end
    count('savepoint')
  end

  def copy
    @connection.copy_data('COPY copied FROM STDIN') do
      COPIED.times { |number| @connection.put_copy_data("#{number}\tcopied\n") }
    end
    rows = 0
    @connection.copy_data('COPY copied TO STDOUT') { rows += 1 while @connection.get_copy_data }
    rows
  end

  def large
    @connection.send_query(LARGE_ROWS)
    @connection.set_single_row_mode
    rows = 0
    while (result = @connection.get_result)
      rows += result.ntuples
    end
    rows
  end

  def cancel
    @connection.send_query('SELECT pg_sleep(60)')
    elsewhere('SELECT wait_for_sleeper()')
    @connection.cancel
    begin
      @connection.get_last_result
    rescue PG::QueryCanceled
      one('SELECT 1')
    end
  end

  def elsewhere(query)
    other = connected
    other.exec(query)
    other.close
  end

  def notify
    @connection.exec('LISTEN news')
    elsewhere("NOTIFY news, 'hello'")
    heard = nil
    @connection.wait_for_notify(30) { |_, _, payload| heard = payload }
    heard
  end

  def begin_leak
    @connection.exec('BEGIN')
    insert('leak')
  end

  def use_leaked
    @connection.exec('SELECT 1')
  end

  def commit_leaked
    @connection.exec('COMMIT')
  end

  def go_on
    @connection.transaction do
      insert('after')
      one('SELECT pg_backend_pid()')
    end
  end

  def again
    @connection.close
    @connection = connected
    one('SELECT 1')
  end

  def close
    @connection.close
  end
end

def step(client, name)
  say(step: name, ok: true, result: block_given? ? yield : client.send(name))
rescue StandardError => e
  warn e.full_message
  say(step: name, ok: false, error: "#{e.class}: #{e.message}")
end

def hold(client)
  client.begin_leak
  say(step: 'leaking')
  $stdin.gets
end

# What this raises.
def attempt
  yield
  { raised: nil }
rescue PG::Error => e
  sqlstate = e.result&.error_field(PG::PG_DIAG_SQLSTATE)
  { raised: e.class.name, sqlstate: sqlstate, text: e.message.strip }
end

def run(client)
  STEPS.each { |name| step(client, name) }
  hold(client)
  say(step: 'leak', **attempt { client.use_leaked })
  %i[again close].each { |name| step(client, name) }
end

def run_rolled_back(client)
  step(client, :connect)
  hold(client)
  step(client, 'statement') { attempt { client.use_leaked } }
  step(client, 'commit') { attempt { client.commit_leaked } }
  step(client, 'go on') { client.go_on }
  hold(client)
  step(client, 'commit at once') { attempt { client.commit_leaked } }
  step(client, 'go on again') { client.go_on }
  step(client, :close)
end

say(driver: 'ruby-pg', version: PG::VERSION)
ENV['INTEROP_SCRIPT'] == 'rolled back' ? run_rolled_back(Client.new) : run(Client.new)
