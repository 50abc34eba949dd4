# Ends whatever a test process leaves behind, however it ends. Its standard input is a pipe from that process, which
# the system closes when the process is gone. Arguments: how the name of the folder of the process begins, the script
# that starts daemons, and whether to keep the folder.
trap '' INT TERM HUP PIPE
PATH=/usr/bin:/bin:$PATH
cd / || exit

# Made here and not by the process, which may end at any moment: what exists has somebody to remove it.
number=0
while ! mkdir -m 700 "$1$number"; do
  number=$((number + 1))
  [ $number -lt 100 ] || exit
done 2>/dev/null
folder=$1$number
printf '%s' "$2" >"$folder/launch" && chmod 755 "$folder/launch" && printf '%s\n' "$folder"
exec >/dev/null 2>&1

while read -r _; do :; done

# From here on no daemon can register itself any more, so the list is complete.
mv "$folder" "$folder.gone" || exit
killed=
for file in "$folder.gone"/*/pid; do
  [ -e "$file" ] && read -r pid <"$file" || continue
  # The number may be somebody else's by now.
  # In some locales ps does not show every letter of a path, so it is asked only where there is no /proc.
  said=$(tr '\0' ' ' <"/proc/$pid/cmdline" || ps -o args= -p "$pid")
  case $said in *"$folder"/*) kill -9 "$pid" && killed="$killed $pid" ;; esac
done
# A daemon that is just ending may still add a file, and make a folder anew for it where the old one was.
for _ in 1 2 3 4 5 6 7 8 9 10; do
  left=
  for pid in $killed; do kill -0 "$pid" && left=yes; done
  rm -rf "$folder"
  [ -n "$3" ] || rm -rf "$folder.gone"
  [ -n "$left" ] || break
  sleep 0.1
done
[ -z "$3" ] || mv "$folder.gone" "$folder"
