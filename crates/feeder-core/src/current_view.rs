//! The `<table>_current` view.
