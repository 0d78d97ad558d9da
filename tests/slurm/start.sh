#!/bin/bash
# A real Slurm on loopback, with accounting, for the tests: as root, without systemd and without cgroups.
# Usage: start.sh WORKDIR [NODES]     then: export SLURM_CONF=WORKDIR/slurm.conf     at the end: stop.sh WORKDIR
# NODES: 1, or as many daemons that stand for a node each.
# Debian: apt-get install --no-install-recommends slurm-wlm munge slurmdbd mariadb-server
# WORKDIR holds everything: keys, sockets, database, states, logs. WORKDIR must be short, as a socket's path has 107 bytes.
set -euo pipefail
mkdir -p "$1"
dir=$(cd "$1" && pwd)
nodes=${2:-1}
export SLURM_CONF=$dir/slurm.conf
mkdir -p "$dir"/{state,spool,munge,mysql}
chmod 711 "$dir" "$dir/munge"

# Ports that nobody listens on now; below the range from which the kernel takes those of outgoing connections.
free_ports() {
  python3 - "$1" <<'P'
import random, socket, sys
held = []
while len(held) < int(sys.argv[1]):
    one = socket.socket()
    try:
        one.bind(("127.0.0.1", random.randrange(20000, 32000)))
        held.append(one)
    except OSError:
        one.close()
print(*(one.getsockname()[1] for one in held))
P
}
wait_for() { # until a command succeeds, for 20 s at most
  for _ in $(seq 200); do "$@" >/dev/null 2>&1 && return; sleep .1; done
  echo "gave up waiting for: $*; see the logs in $dir" >&2
  return 1
}
listening() { (: >"/dev/tcp/127.0.0.1/$1"); }
read -r controller database accounting ports < <(free_ports $((3 + nodes)))
read -ra ports <<<"$ports"

cat >"$SLURM_CONF" <<C
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$controller
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# cred_expire: a requeued job waits until its old credentials have expired: two minutes, or 5 s, the least allowed.
AuthInfo=socket=$dir/munge/socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$accounting
AccountingStoragePass=$dir/munge/socket
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/%n.slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/%n.slurmd.log
# A time limit of a minute is a minute: none over it, and 5 s from SIGTERM to SIGKILL.
OverTimeLimit=0
KillWait=5
JobRequeue=1
SchedulerType=sched/backfill
# A pending job is looked at every second, not every half minute.
SchedulerParameters=bf_interval=1,sched_interval=1
# Two cores and 4 GB a node, whatever the machine has.
SlurmdParameters=config_overrides
$(for k in $(seq "$nodes"); do
  echo "NodeName=node$k NodeHostname=localhost NodeAddr=127.0.0.1 Port=${ports[k - 1]} CPUs=2 RealMemory=4000 State=UNKNOWN"
done)
PartitionName=tests Nodes=ALL Default=YES MaxTime=INFINITE State=UP
C

cat >"$dir/slurmdbd.conf" <<C
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$accounting
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$database
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
LogFile=$dir/slurmdbd.log
PidFile=$dir/slurmdbd.pid
C
chmod 600 "$dir/slurmdbd.conf"

# Who may ask whom: munge, with a key of its own.
(umask 377 && head -c 1024 /dev/urandom >"$dir/munge/key")
munged --force --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munged.pid" \
  --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" --num-threads=1 2>"$dir/munge/warnings"

# The accounting, which submitit asks whether a job still runs: without it a job that is killed hard is waited for in vain.
mariadb-install-db --no-defaults --user=root --datadir="$dir/mysql" --skip-test-db \
  --auth-root-authentication-method=normal >"$dir/mysql.log" 2>&1
setsid mariadbd --no-defaults --user=root --datadir="$dir/mysql" --socket="$dir/mysql.socket" --pid-file="$dir/mariadbd.pid" \
  --bind-address=127.0.0.1 --port="$database" --innodb-buffer-pool-size=32M --innodb-lock-wait-timeout=900 \
  --innodb-flush-log-at-trx-commit=0 >>"$dir/mysql.log" 2>&1 </dev/null &
sql() { mariadb --no-defaults --socket="$dir/mysql.socket" -e "$1"; }
wait_for sql "select 1"
sql "create database slurm; create user slurm@'127.0.0.1' identified by 'slurm'; grant all on slurm.* to slurm@'127.0.0.1'"
sql "create user slurm@localhost identified by 'slurm'; grant all on slurm.* to slurm@localhost"
slurmdbd >>"$dir/slurmdbd.log" 2>&1 </dev/null
wait_for listening "$accounting"
sacctmgr --immediate add cluster tests >/dev/null || sacctmgr show cluster -n | grep -q tests

slurmctld -c >>"$dir/slurmctld.log" 2>&1 </dev/null
for k in $(seq "$nodes"); do
  mkdir -p "$dir/spool/node$k"
  slurmd -N "node$k" >>"$dir/node$k.slurmd.log" 2>&1 </dev/null
done
idle() { [ "$(sinfo --noheader --format=%T,%D)" = "idle,$nodes" ]; }
wait_for idle
