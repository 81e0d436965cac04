# shellcheck shell=bash
# The disk of a Debian guest with systemd. Sourced by scripts/vm.
# shellcheck disable=SC2154 # what is not assigned here is scripts/vm's

debian_suite=bookworm
debian_packages=systemd,systemd-sysv,udev,dbus,kmod,iproute2,procps

# Makes the disk, once: the image, and what it was made from.
make_debian() {
    local image=$1 recipe new
    recipe=$(sha256sum <"$parts/debian/make.sh")
    if [ -e "$image" ] && [ "$(cat "$image.recipe" 2>/dev/null)" = "$recipe" ]; then return; fi
    [ "$EUID" -eq 0 ] || die "making the disk of a Debian guest needs root: once, sudo $0 ..."
    for program in debootstrap mkfs.ext4; do
        command -v "$program" >/dev/null || die "no $program: run sudo scripts/setup --vm"
    done
    say "making the disk of a Debian guest; this takes some minutes, once"
    new=$(mktemp -d "$cache/debian.XXXXXX")
    (
        debootstrap --variant=minbase --include="$debian_packages" "$debian_suite" "$new/root" >"$new/log" 2>&1 ||
            { tail -n 20 "$new/log" >&2; die "debootstrap failed, see above"; }
        cd "$new/root"
        rm -rf var/cache/apt/* var/lib/apt/lists/* usr/share/doc/* usr/share/locale/* usr/share/man/*
        # the guest has no screen, nobody who logs in, and no way out
        ln -sf /lib/systemd/system/multi-user.target etc/systemd/system/default.target
        for unit in getty.target systemd-logind.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
            e2scrub_all.timer fstrim.timer systemd-networkd.service systemd-timesyncd.service; do
            ln -sf /dev/null "etc/systemd/system/$unit"
        done
        rm -f etc/hostname
        : >etc/machine-id
        mkfs.ext4 -q -O ^has_journal -d . "$new/image" 1500M
    ) || { rm -rf "$new"; exit 1; }
    mv "$new/image" "$image"
    printf '%s\n' "$recipe" >"$image.recipe"
    rm -rf "$new"
}

# add_debian ROOT: what an initramfs needs besides, to put the guest's own files on that disk and go on from it.
add_debian() {
    local root=$1 before=$parts/debian/before package
    cp "$parts/debian/init" "$root/init"
    mkdir -p "$root/vm/built" "$root/vm/source/scripts"
    mv "$root"/usr/local/bin/migrate-* "$root/vm/built"
    cp "$repo"/scripts/{install,lib.sh} "$root/vm/source/scripts"
    cp -r "$repo/packaging" "$root/vm/source"
    cp "$parts/debian/test" "$root/vm/debian-test"
    cp "$parts/debian/serve" "$root/vm/debian-serve"
    cp "$parts"/debian/{service.sh,vm-serve.service,vm-test.service} "$root/vm"
    [ ! -e "$test_file.before" ] || before=$test_file.before
    cp "$before" "$root/vm/before"
    for package in "$(target_dir)"/debian/migrate_*.deb; do
        if [ -e "$package" ]; then cp "$package" "$root/vm/migrate.deb"; fi
    done
    chmod 755 "$root/vm/before" "$root/vm/debian-serve" "$root/init"
}
