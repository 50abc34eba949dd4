# Leads the process group of a program under test. Its standard input is a pipe from the runner, which the system closes
# however the runner ends; then nothing of the group is left.
trap '' INT TERM HUP PIPE
while read -r _; do :; done
kill -9 0
