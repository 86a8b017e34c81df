package config

// Image is [image]: where new versions come from.
type Image struct {
	// CA is the authority of the servers that `image install https://...` may
	// ask: "secret:NAME" or a path, PEM. Without it only a stick is read: the
	// image brings no public authorities, since the line is closed.
	CA string
}

func (r *reader) image(root *table) Image {
	t := r.child(root, "image", false)
	if t == nil {
		return Image{}
	}
	defer r.done(t)
	return Image{CA: r.file(t, "ca", true)}
}
