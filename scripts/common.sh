# Shared by the scripts, which source it and set $top to the root of the tree.
# shellcheck shell=bash disable=SC2034,SC2154

say() { printf '==> %s\n' "$*"; }
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# A word before commands that need root: nothing, or sudo.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		command -v sudo >/dev/null || die "this needs root: $* (and there is no sudo)"
		sudo "$@"
	fi
}

# install_packages NAME...: by apt-get, only what lacks.
install_packages() {
	local lacking=() package
	command -v apt-get >/dev/null || {
		say "no apt-get here: taking for granted that the dependencies are installed"
		return
	}
	for package in "$@"; do
		case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
		*" installed") ;;
		*) lacking+=("$package") ;;
		esac
	done
	[ ${#lacking[@]} -gt 0 ] || return 0
	say "installing ${lacking[*]}"
	as_root apt-get update -qq || say "apt-get update failed; trying with the lists that are there"
	case " ${lacking[*]} " in
	*" postgresql "*)
		# The server's programs are wanted, not a running server.
		as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			postgresql-common >/dev/null || die "apt-get install postgresql-common failed"
		as_root sed -i 's/^#\?[[:space:]]*create_main_cluster.*/create_main_cluster = false/' \
			/etc/postgresql-common/createcluster.conf
		;;
	esac
	# RUNLEVEL: their services are not wanted either
	as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends \
		"${lacking[@]}" >/dev/null || die "apt-get install failed"
}

# What the build needs, and what both scripts need beside it.
build_packages=(gcc libc6-dev make autoconf automake pkg-config libev-dev libinih-dev libpq-dev
	default-libmysqlclient-dev libssl-dev libidn-dev libmicrohttpd-dev liburing-dev uthash-dev)

# copy_sources DIRECTORY: the project's files as they are now, so that nothing is generated among them.
copy_sources() {
	mkdir -p "$1"
	if git -C "$top" rev-parse --is-inside-work-tree >/dev/null 2>&1; then
		(cd "$top" && git ls-files -z --cached --others --exclude-standard |
			while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
			tar -c --null -T - -f -) | tar -x -C "$1" -f -
	else
		(cd "$top" && tar -c --exclude=.git -f - .) | tar -x -C "$1" -f -
	fi
}

# The folder of PostgreSQL's programs.
postgres_bin() {
	local dir newest=
	for dir in /usr/lib/postgresql/*/bin; do
		[ ! -x "$dir/initdb" ] || newest=$dir
	done
	[ -n "$newest" ] || newest=$(dirname "$(command -v initdb)") || die "no PostgreSQL server is installed"
	printf '%s\n' "$newest"
}

# as_postgres COMMAND...: PostgreSQL does not run as root.
as_postgres() {
	if [ "$(id -u)" = 0 ]; then
		setpriv --reuid=postgres --regid=postgres --clear-groups "$@"
	else
		"$@"
	fi
}

# free_port FIRST: the first port from there that nobody listens on.
free_port() {
	local port=$1
	while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
		port=$((port + 1))
	done
	printf '%s\n' "$port"
}
