# Perl's DBD::Pg. What a step has to do and to return is told in ../python/script.py.
use strict;
use warnings;
use utf8;
use DBD::Pg qw(:async);
use DBI;
use JSON::PP;

use constant COPIED => 100_000;
use constant LARGE_ROWS => "SELECT g, repeat('x', 100) FROM generate_series(1, 100000) AS g";

my $json = JSON::PP->new->utf8->canonical->allow_nonref;
my ($connection, %steps);
$| = 1;

sub say_line { print $json->encode({@_}), "\n" }

# libpq reads the environment.
sub connected { DBI->connect('dbi:Pg:', undef, undef, {RaiseError => 1, PrintError => 0, AutoCommit => 1}) }

sub one { my ($query, @arguments) = @_; ($connection->selectrow_array($query, undef, @arguments))[0] }

sub count { 0 + one('SELECT count(*) FROM items WHERE step = ?', shift) }

sub insert { $connection->do('INSERT INTO items VALUES (?)', undef, shift) }

$steps{connect} = sub {
    $connection = connected();
    one("SELECT current_setting('application_name')");
};

$steps{parameters} = sub {
    my @row = $connection->selectrow_array('SELECT ?::int + 1, ?::text', undef, 41, "naïve 'quoted'");
    [0 + $row[0], $row[1]];
};

$steps{prepared} = sub {
    my $double = $connection->prepare('SELECT ?::int * 2', {pg_server_prepare => 1, pg_switch_prepared => 1});
    [map { $double->execute($_); 0 + ($double->fetchrow_array)[0] } 21, 4];
};

$steps{commit} = sub {
    $connection->begin_work;
    insert('commit');
    $connection->commit;
    count('commit');
};

$steps{rollback} = sub {
    $connection->begin_work;
    insert('rollback');
    eval { $connection->do('SELECT 1 / 0') };
    my $sqlstate = $connection->state;
    $connection->rollback;
    [$sqlstate, count('rollback')];
};

$steps{savepoint} = sub {
    $connection->begin_work;
    insert('savepoint');
    $connection->pg_savepoint('here');
    insert('savepoint');
    eval { $connection->do('SELECT 1 / 0'); 1 } or $connection->pg_rollback_to('here');
    $connection->commit;
    count('savepoint');
};

$steps{copy} = sub {
    $connection->do('COPY copied FROM STDIN');
    $connection->pg_putcopydata("$_\tcopied\n") for 1 .. COPIED;
    $connection->pg_putcopyend;
    $connection->do('COPY copied TO STDOUT');
    my ($rows, $row) = (0);
    $rows++ while $connection->pg_getcopydata($row) >= 0;
    $rows;
};

$steps{large} = sub { scalar @{$connection->selectall_arrayref(LARGE_ROWS)} };

$steps{cancel} = sub {
    $connection->do('SELECT pg_sleep(60)', {pg_async => PG_ASYNC});
    my $other = connected();
    $other->do('SELECT wait_for_sleeper()');
    $other->disconnect;
    $connection->pg_cancel or die 'it was not cancelled';
    0 + one('SELECT 1');
};

$steps{notify} = sub {
    $connection->do('LISTEN news');
    my $other = connected();
    $other->do("NOTIFY news, 'hello'");
    $other->disconnect;
    $connection->do('SELECT 1');
    $connection->pg_notifies->[2];
};

$steps{again} = sub {
    eval { $connection->disconnect };    # it says that there is no connection
    $connection = connected();
    0 + one('SELECT 1');
};

$steps{close} = sub { $connection->disconnect; undef };

sub step {
    my ($name, $work) = @_;
    my $result = eval { [($work // $steps{$name})->()] };
    $result ? say_line(step => $name, ok => JSON::PP::true, result => $result->[0])
            : say_line(step => $name, ok => JSON::PP::false, error => "$@");
}

my $statement = sub { attempt(sub { $connection->do('SELECT 1') }) };

my $commit = sub { attempt(sub { $connection->commit }) };

my $go_on = sub {
    $connection->rollback unless $connection->{AutoCommit};
    $connection->begin_work;
    insert('after');
    my $pid = 0 + one('SELECT pg_backend_pid()');
    $connection->commit;
    $pid;
};

sub hold {
    $connection->begin_work;
    insert('leak');
    say_line(step => 'leaking');
    <STDIN>;
}

# What this raises.
sub attempt {
    my $work = shift;
    return {raised => undef} if eval { $work->(); 1 };
    {raised => 'die', sqlstate => $connection->state, text => $connection->errstr};
}

say_line(driver => 'DBD::Pg', version => "$DBD::Pg::VERSION");
if (($ENV{INTEROP_SCRIPT} // '') eq 'rolled back') {
    step('connect');
    hold();
    step('statement', $statement);
    step('commit', $commit);
    step('go on', $go_on);
    hold();
    step('commit at once', $commit);
    step('go on again', $go_on);
    step('close');
    exit;
}
step($_) for qw(connect parameters prepared commit rollback savepoint copy large cancel notify);
hold();
say_line(step => 'leak', %{$statement->()});
step($_) for qw(again close);
