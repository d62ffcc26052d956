pub(super) const GOLDEN: &str = "messages.golden.txt";
