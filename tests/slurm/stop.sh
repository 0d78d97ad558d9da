#!/bin/bash
# Ends the daemons that start.sh started in WORKDIR, and only those, by their pid files; before them their jobs.
# Usage: stop.sh WORKDIR
dir=$(cd "$1" && pwd) || exit 1
export SLURM_CONF=$dir/slurm.conf
if [ -s "$dir/slurmctld.pid" ]; then
  timeout 5 scancel --user=root 2>/dev/null
  for _ in $(seq 100); do # until they are gone: 5 s from SIGTERM to SIGKILL
    [ -z "$(timeout 5 squeue --noheader 2>/dev/null)" ] && break
    sleep .1
  done
fi
pids=()
for file in "$dir"/*.slurmd.pid "$dir"/{slurmctld,slurmdbd,mariadbd,munged}.pid; do
  pid=$(cat "$file" 2>/dev/null) || continue
  daemon=$(basename "${file%.pid}") daemon=${daemon#*.}
  grep -qz "$daemon" "/proc/$pid/cmdline" 2>/dev/null && pids+=("$pid") # else it ended, and the number is another's by now
done
[ ${#pids[@]} = 0 ] && exit
kill "${pids[@]}" 2>/dev/null
for _ in $(seq 100); do
  kill -0 "${pids[@]}" 2>/dev/null || break # fails once none is left
  sleep .1
done
kill -KILL "${pids[@]}" 2>/dev/null
true
