# shellcheck shell=bash
# The kernel module of kmod/, built for the guests' kernels. Sourced by scripts/vm.
# shellcheck disable=SC2154 # what is not assigned here is scripts/vm's

# Where the headers of the series' kernel are, as it is fetched.
headers_of() { printf '%s\n' "$cache/headers/$1/usr/src/linux-headers-$(kernel_of "$1")"; }
kernel_of() { sed s/^linux-image-// "$cache/kernels/$1/package"; }

# Gets the headers of the series' kernel. They are not installed.
fetch_headers() {
    local series=$1 dir=$cache/headers/$1 new package
    package=linux-headers-$(kernel_of "$series")
    if [ "$(cat "$dir/package" 2>/dev/null)" = "$package" ]; then return; fi
    mkdir -p "$cache/headers"
    new=$(mktemp -d "$cache/headers/new.XXXXXX")
    (
        cd "$new"
        # Of what they depend on: what is common to all flavours, and the programs that build modules.
        mapfile -t needed < <(apt-cache depends "$package" 2>/dev/null |
            awk '$1 == "Depends:" && $2 ~ /^linux-(headers-.*-common|kbuild-)/ { print $2 }')
        [ "${#needed[@]}" -gt 0 ] && apt_get download "$package" "${needed[@]}" ||
            die "cannot download $package: if the archive has a newer kernel by now, run scripts/vm fetch --kernel $series"
        for file in ./*.deb; do dpkg -x "$file" .; done
        rm -f ./*.deb
        # The one path in them that is not relative.
        sed -i "s,^include /usr/src,include $dir/usr/src," "usr/src/$package/Makefile"
        echo "$package" >package
    ) || { rm -rf "$new"; exit 1; }
    rm -rf "$dir"
    mv "$new" "$dir"
    say "$series: $package"
}

# Builds the module for a series, if what it is made of has changed. It must compile without a warning.
build_module() {
    local series=$1 dir=$cache/kmod/$1 made_of
    fetch_headers "$series"
    made_of=$(cat "$cache/headers/$series/package" && cd "$repo/kmod" && find . -type f -not -name '.*' -exec sha256sum {} + | sort)
    if [ -e "$dir/migrate.ko" ] && [ "$(cat "$dir/made-of" 2>/dev/null)" = "$made_of" ]; then return; fi
    command -v make >/dev/null || die "no make: run sudo scripts/setup --vm"
    rm -rf "$dir"
    mkdir -p "${dir%/*}"
    cp -r "$repo/kmod" "$dir"
    make --directory="$dir" KDIR="$(headers_of "$series")" modules >"$dir.log" 2>&1 || { cat "$dir.log" >&2; die "the module does not build for $series"; }
    if grep -q -i 'warning' "$dir.log"; then
        cat "$dir.log" >&2
        die "the module does not build without warnings for $series"
    fi
    strip --strip-debug "$dir/migrate.ko"
    printf '%s\n' "$made_of" >"$dir/made-of"
}

# add_module ROOT SERIES: it is loaded like those of the kernel, before the agent starts; and what tests it.
add_module() {
    local name
    build_module "$2"
    cp "$cache/kmod/$2/migrate.ko" "$1/vm/modules/99-migrate.ko"
    cp "$cache/kmod/$2/migrate.ko" "$1/vm"
    for name in check cpu_time stress; do cc -static -O1 -Wall -I"$repo/kmod" -o "$1/vm/kmod-$name" "$parts/kmod/$name.c" -pthread; done
    cp "$parts/tests/subjects" "$1/vm/test-subjects"
}
