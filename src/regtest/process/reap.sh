# Ends whatever a process of the harness leaves behind, however it ends. Its standard input is a pipe from that process.
# The pipe closes when the process is gone, and with it every child that it had forked and that had not yet become its
# program: so all that is left can be told by its environment. Arguments: the folder of the process, the variable that
# names it in the environment of everything that was started, and whether to keep the folder.
# Lists of process numbers are split on purpose, and pgrep does not see the environment.
# shellcheck disable=SC2009,SC2046,SC2086,SC2116
trap '' INT TERM HUP PIPE
PATH=/usr/bin:/bin:$PATH
cd / || exit
# Made here and not by the process, which may end at any moment: what exists is then removed.
mkdir -m 700 "$1" || exit
echo made
exec >/dev/null
while read -r _; do :; done

# Prints the numbers of those that are left: marked, or running on data in the folder, if a wrapper has cleared the
# environment. Without /proc, ps is asked.
left() {
  if [ -e /proc/self/environ ]; then
    found=$(grep -lF -e "$2=$1" /proc/[0-9]*/environ; grep -lF -e "dir=$1/" /proc/[0-9]*/cmdline)
  else
    found=$(ps -A -E -ww -o pid= -o command= | grep -F -e "$2=$1" -e "dir=$1/" | sed 's|^ *|/proc/|; s| .*|/|')
  fi
  # By now the grep that found itself has ended.
  printf '%s\n' "$found" | while IFS=/ read -r _ _ pid _; do
    [ -n "$pid" ] && kill -0 "$pid" && echo "$pid"
  done
}

# Prints the number of each process and that of its parent.
parents() {
  [ -e /proc/self/stat ] || exec ps -A -o pid= -o ppid=
  for stat in /proc/[0-9]*/stat; do
    # The second field, the name, is in brackets and may have any letter in it.
    read -r line <"$stat" || continue
    pid=${stat#/proc/}
    set -- ${line##*)}
    echo "${pid%/stat} $2"
  done
}

# Adds the children of these, and theirs, whatever they have done to their environment.
with_children() {
  family=" $(echo $1) " more=yes
  while [ -n "$more" ]; do
    more=
    while read -r pid parent; do
      case $family in
        *" $pid "*) ;;
        *" $parent "*) family="$family$pid " more=yes ;;
      esac
    done <<END
$(parents)
END
  done
  echo $family
}

# What forks while it is being ended is found by the next look.
for _ in 1 2 3 4 5 6 7 8 9 10; do
  pids=$(left "$1" "$2")
  [ -n "$3" ] || rm -rf "$1"
  [ -n "$pids" ] || break
  kill -9 $(with_children "$pids")
  sleep 0.1
done
