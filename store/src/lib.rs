//! A content-addressed store of OCI images and their layers.
