#!/bin/sh
# Starts a daemon under the eyes of the reaper. It is called through a link in the folder of that daemon, beside a link
# to the program, and becomes the program: its process number is the daemon's.
folder=${0%/*}
# Registered before it exists. If the folder is gone by then, nobody would end it any more.
echo $$ >"$folder/pid" && [ -e "$folder/pid" ] || exit 1
for argument; do
  shift
  case $argument in
    # Nothing of a test is for the world to see.
    0.0.0.0:*) argument=127.0.0.1:${argument#*:} ;;
    # A folder that is new at every start; the data stays, and only looks as if it were there.
    -datadir=*)
      /bin/ln -s "$folder/data/regtest" "${argument#*=}/regtest" || exit 1
      argument=-datadir=$folder/data
      ;;
  esac
  set -- "$@" "$argument"
done
exec "$folder/program" "$@" 2>"$folder/stderr"
