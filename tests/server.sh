#!/bin/sh
# Starts a throwaway PostgreSQL server in the folder $1, owned by this user, from the programs in $2,
# on port $3, says `ready`, and ends it with standard input. The role `secret` needs a password, the
# role `tls` a connection with TLS.
set -e
cd "$1" && PATH="$2:$PATH"
initdb -D data -A trust -U postgres -N -E UTF8 --locale=C >log 2>&1
cat >data/pg_hba.conf <<END
hostssl all tls 127.0.0.1/32 trust
host all secret,tls 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
local all all trust
END
cat >>data/postgresql.conf <<END
listen_addresses = '127.0.0.1'
port = $3
unix_socket_directories = '$1'
# An answer that does not wait for the disk is lost by a crash, and not saved by chance.
wal_writer_delay = 10s
END
cp server.crt server.key data/ 2>/dev/null && chmod 600 data/server.key && echo "ssl = on" >>data/postgresql.conf
pg_ctl -w -s -D "$1/data" -l log start
psql -q -h "$1" -p "$3" -U postgres -c "CREATE ROLE secret LOGIN PASSWORD 'hunter2'" -c "CREATE ROLE tls LOGIN"
echo ready
cat >/dev/null
pg_ctl -w -s -D data -m immediate stop
cd / && rm -rf "$1" 2>/dev/null || true
