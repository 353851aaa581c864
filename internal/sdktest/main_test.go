//go:build linux

package sdktest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inside tells the test binary, in its environment, that it is in the namespaces. Its
// value is a folder with the farport binary and the hosts file.
const inside = "FARPORT_TEST_NAMESPACE"

// unable says why this machine cannot run the tests; "" if it can.
var unable string

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		os.Exit(m.Run())
	}
	if dir := os.Getenv(inside); dir != "" {
		if err := furnish(dir); err != nil {
			unable = err.Error()
		}
		os.Exit(m.Run())
	}
	code, err := runInside()
	if err != nil {
		unable = err.Error()
		code = m.Run()
	}
	os.Exit(code)
}

// runInside builds farport and runs the tests in namespaces of their own: network,
// mounts, and processes, so that nothing outlives them. An error means that they were
// not run.
func runInside() (code int, err error) {
	dir, err := os.MkdirTemp("", "sdktest")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "farport"), "../../cmd/farport")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		fmt.Printf("go build: %v\n%s", err, text)
		return 1, nil
	}
	tests := exec.Command(os.Args[0], os.Args[1:]...)
	tests.Env = append(os.Environ(), inside+"="+dir)
	tests.Stdout, tests.Stderr = os.Stdout, os.Stderr
	tests.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  unix.SIGKILL,
	}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		tests.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		tests.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		tests.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
	}
	runtime.LockOSThread() // the death that Pdeathsig means is this thread's
	if err := tests.Start(); err != nil {
		return 0, fmt.Errorf("cannot make namespaces here: %w", err)
	}
	_ = tests.Wait() // a failure is in the exit code
	return tests.ProcessState.ExitCode(), nil
}

// furnish brings the loopback interface up and puts a hosts file of our own in place.
func furnish(dir string) error {
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("cannot bring lo up: %w", err)
	}
	hosts := filepath.Join(dir, "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost\n"), 0o644); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make mounts private: %w", err)
	}
	if err := unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot mount a hosts file: %w", err)
	}
	return nil
}
