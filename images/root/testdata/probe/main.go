// Command probe is an init for one test: it starts what the image brings, says
// on the serial line what works, and turns the machine off.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

func main() {
	if os.Getpid() != 1 {
		return // as modprobe
	}
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}, {"tmpfs", "/data"}} {
		check("mount "+m[1], syscall.Mount(m[0], m[1], m[0], 0, ""))
	}
	serial, err := os.OpenFile("/dev/ttyS0", os.O_RDWR, 0)
	if err == nil {
		os.Stdout = serial
	}
	check("own folder", os.Mkdir("/data/pg", 0o700))
	check("give folder", os.Chown("/data/pg", 70, 70))

	for _, module := range os.Args[1:] { // the kernel passes on what it doesn't know
		load(module)
	}
	charon := exec.Command("/usr/lib/ipsec/charon")
	log := new(strings.Builder)
	charon.Stderr, charon.Stdout = log, log
	check("charon starts", charon.Start())

	command(0, "/bin/sh", "-c", "echo from the shell")
	command(0, "/bbin/ls", "-l", "/sbin/modprobe")
	command(0, "/usr/bin/free")
	command(70, "/usr/lib/postgresql/15/bin/initdb", "-D", "/data/pg", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-k")
	command(70, "/bin/sh", "-c", "cd /data && echo \"select 'row ' || 40 + 2, now() at time zone 'Asia/Tokyo' is not null, digest('a','sha256') is null from (select 1) x\" | sed s/,.digest.*null//"+
		" | /usr/lib/postgresql/15/bin/postgres --single -D /data/pg -c log_timezone=Asia/Tokyo postgres")
	command(0, "/sbin/mke2fs", "-q", "-t", "ext4", "/data/disk", "8M")
	command(0, "/sbin/e2fsck", "-fn", "/data/disk")
	for range 100 {
		if _, err = os.Stat("/run/charon.vici"); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	check("charon's socket", err)
	fmt.Print(strings.ReplaceAll(log.String(), "\n", "\r\n"))
	mem, _ := os.ReadFile("/proc/meminfo")
	fmt.Printf("%s\r\n", strings.Join(strings.SplitN(string(mem), "\n", 6)[:5], "\r\n"))
	fmt.Print("DONE\r\n")
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func load(name string) {
	f, err := os.Open(name)
	if err == nil {
		defer f.Close()
	}
	check("load "+name, err)
}

func command(user uint32, argv ...string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=/usr/bin:/bbin", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	fmt.Printf("%s\r\n", strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", "\r\n"))
	check(fmt.Sprintf("%s (%.1f s)", argv[0], time.Since(begin).Seconds()), err)
}

func check(what string, err error) {
	if err != nil {
		fmt.Printf("FAIL %s: %v\r\n", what, err)
		return
	}
	fmt.Printf("ok %s\r\n", what)
}
