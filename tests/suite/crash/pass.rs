//! The operations of a store that a wrapper passes on to the one in it.

/// `passed_on!(field; names…)`: each of these operations, as the store in `self.field` does it.
macro_rules! passed_on {
    ($store:ident; $($name:ident)*) => { $( passed_on!(@ $store $name); )* };
    (@ $s:ident add) => { passed_on!(= $s add(batch: Vec<NewTask>) -> Vec<Added>); };
    (@ $s:ident claim) => { passed_on!(= $s claim(claim: Claim) -> Claimed); };
    (@ $s:ident append) => { passed_on!(= $s append(batch: Vec<Append>) -> Vec<Appended>); };
    (@ $s:ident extend) => { passed_on!(= $s extend(leases: Vec<Lease>, lease: Duration) -> Vec<Extended>); };
    (@ $s:ident read) => { passed_on!(= $s read(read: Read) -> Slice); };
    (@ $s:ident sweep) => { passed_on!(= $s sweep(sweep: Sweep) -> Swept); };
    (@ $s:ident watch) => { passed_on!(= $s watch(interest: Arc<Interest>) -> Hints); };
    (@ $s:ident rest) => {
        passed_on!(= $s start(ids: Vec<TaskId>) -> Vec<Option<Status>>);
        passed_on!(= $s cancel(id: TaskId, reason: String) -> Cancelled);
        passed_on!(= $s release(leases: Vec<Lease>) -> ());
        passed_on!(= $s remove(ids: Vec<TaskId>) -> Vec<Removed>);
        passed_on!(= $s prune(prune: Prune) -> Pruned);
        passed_on!(= $s doc_put(put: DocPut) -> Option<u64>);
        fn retention(&self) -> Prune {
            self.$s.retention()
        }
        fn now(&self) -> Option<std::time::SystemTime> {
            self.$s.now()
        }
        fn durability(&self) -> &'static str {
            self.$s.durability()
        }
    };
    (@ $s:ident lookups) => {
        passed_on!(= $s get(ids: Vec<TaskId>) -> Vec<Option<TaskRecord>>);
        passed_on!(= $s list(list: List) -> Listed);
        passed_on!(= $s stats() -> Stats);
        passed_on!(= $s doc_get(key: String) -> Option<Doc>);
        passed_on!(= $s doc_list(prefix: String) -> Vec<Doc>);
    };
    (= $s:ident $name:ident($($arg:ident: $ty:ty),*) -> $out:ty) => {
        fn $name(&self, $($arg: $ty),*) -> Answer<'_, $out> {
            self.$s.$name($($arg),*)
        }
    };
}
pub(crate) use passed_on;
