#!/bin/sh
# Build a sqlite3 whose .recover works, from Debian's source of the very release that Python uses here: Debian's own
# tool is built without the page table (SQLITE_ENABLE_DBPAGE_VTAB). Needs gcc, make, tclsh and Debian's archive.
#     sh bench/build_recover.sh FOLDER        leaves FOLDER/sqlite3
set -eu
folder=${1:?"usage: sh bench/build_recover.sh FOLDER"}
mkdir -p "$folder/lists/partial"
cd "$folder"
# The machine's own sources, asked for source packages.
sed 's/^Types: deb$/Types: deb-src/' /etc/apt/sources.list.d/debian.sources > debian.sources
apt() { apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$PWD" -o Dir::State::lists="$PWD/lists" "$@"; }
apt update
apt source --download-only sqlite3
mkdir -p source
tar xf sqlite3_*.orig.tar.xz --strip-components=1 -C source
cd source
./configure --quiet --disable-tcl --disable-readline > /dev/null
make --silent sqlite3.c shell.c
gcc -O2 -DSQLITE_ENABLE_DBPAGE_VTAB -DSQLITE_THREADSAFE=0 -DSQLITE_OMIT_LOAD_EXTENSION shell.c sqlite3.c -o ../sqlite3 -lm
