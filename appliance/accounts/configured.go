package accounts

import (
	"komainu/appliance/config"
)

// Configured reads the [[user]] of a configuration file, for Book.Users.
func Configured(path string) func() ([]User, error) {
	return func() ([]User, error) {
		f, err := config.Load(path)
		if err != nil {
			return nil, err
		}
		var all []User
		for _, u := range f.Users {
			all = append(all, User{u.Name, u.Role, u.Password, u.Keys})
		}
		return all, nil
	}
}
