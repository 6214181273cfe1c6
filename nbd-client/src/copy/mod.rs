//! From one place to another: files, devices, exports.
