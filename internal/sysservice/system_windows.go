package sysservice

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/kardianos/service"
	"golang.org/x/sys/windows"
)

// user is whom the service runs as: it may use the network and change nothing.
const user = `NT AUTHORITY\LocalService`

// Who may do what with the secrets and their folder, others nothing: the system
// and administrators everything, LocalService reads. Inherited entries are cut off.
const (
	secretRights = "O:BAD:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FR;;;LS)"
	folderRights = "O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FRFX;;;LS)"
)

func isRoot() bool { return windows.GetCurrentProcessToken().IsElevated() }

func secretPath(name string) string {
	dir, err := windows.KnownFolderPath(windows.FOLDERID_ProgramData, 0)
	if err != nil {
		dir = `C:\ProgramData`
	}
	return filepath.Join(dir, "farport", name)
}

// Definition tells what the service will be: on Windows it is no file.
func Definition(s Spec) (string, error) {
	words := []string{windows.EscapeArg(s.Executable)}
	for _, a := range allArguments(s) {
		words = append(words, windows.EscapeArg(a))
	}
	return fmt.Sprintf("Name: %s\r\nRuns as: %s\r\nStart: automatic, again after 10 s when it ends\r\nCommand: %s\r\n", Name, user, strings.Join(words, " ")), nil
}

func options(Spec) (service.KeyValue, error) {
	return service.KeyValue{
		"DelayedAutoStart":             true,
		service.OnFailure:              service.OnFailureRestart,
		service.OnFailureDelayDuration: "10s",
	}, nil
}

// makeSecretDir makes the folder, or takes one over: in ProgramData everybody may have
// made it before.
func makeSecretDir() error {
	dir := filepath.Dir(secretPath(connectionFile))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	rights, err := windows.SecurityDescriptorFromString(folderRights)
	if err != nil {
		return err
	}
	owner, _, err := rights.Owner()
	if err != nil {
		return err
	}
	dacl, _, err := rights.DACL()
	if err != nil {
		return err
	}
	err = windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT,
		windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION,
		owner, nil, dacl, nil)
	if err != nil {
		return fmt.Errorf("set the rights of %s: %w", dir, err)
	}
	return nil
}

// writeSecret makes the file anew with its rights from the first moment on.
func writeSecret(path string, text []byte) error {
	if err := remove(path); err != nil {
		return err
	}
	rights, err := windows.SecurityDescriptorFromString(secretRights)
	if err != nil {
		return err
	}
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return err
	}
	attributes := windows.SecurityAttributes{SecurityDescriptor: rights}
	attributes.Length = uint32(unsafe.Sizeof(attributes))
	h, err := windows.CreateFile(name, windows.GENERIC_WRITE, 0, &attributes, windows.CREATE_NEW, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return &os.PathError{Op: "create", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(h), path)
	_, err = f.Write(text)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// saveDefinition has nothing to keep: there is no file.
func saveDefinition() (func() error, error) { return nil, nil }
