//! Who a session is, as its transactions come and go (pure).
//!
//! It follows what Postgres does with a setting: what is set in a transaction that is rolled back
//! was never set, and what is set locally ends with its transaction.

/// Who a session is now, and was before the transaction that is open. `T` is an identity.
#[derive(Clone, Debug)]
pub(super) struct Acting<T> {
    login: T,
    /// When the transaction began.
    before: Who<T>,
    /// Once the transaction is committed.
    session: Who<T>,
    /// Until the transaction is over.
    local: Option<Who<T>>,
    /// The session's was changed in the transaction that is open.
    is_changed: bool,
    /// Something of that was changed behind a savepoint.
    is_behind_savepoint: bool,
}

/// Who a session is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Who<T> {
    /// Whoever logged in.
    Login,
    /// Whom the client named in band.
    As(T),
    /// Nobody, and why. The identity is the one from whose token the client may choose a tenant
    /// next, if it still may.
    Nobody(Lost, Option<T>),
}

/// Why a session is nobody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Lost {
    /// A token or a choice was refused.
    Refused,
    /// The token has expired.
    Expired,
    /// A savepoint was rolled back to, and who the session was then is not known.
    RolledBack,
    /// The tenant may not be served any more.
    Unserved,
}

impl<T: Clone> Acting<T> {
    pub(super) const fn new(login: T) -> Self {
        Self {
            login,
            before: Who::Login,
            session: Who::Login,
            local: None,
            is_changed: false,
            is_behind_savepoint: false,
        }
    }

    pub(super) const fn login(&self) -> &T {
        &self.login
    }

    /// Who the session is, or why it is nobody.
    pub(super) fn now(&self) -> Result<&T, Lost> {
        match self.local.as_ref().unwrap_or(&self.session) {
            Who::Login => Ok(&self.login),
            Who::As(identity) => Ok(identity),
            Who::Nobody(why, _) => Err(*why),
        }
    }

    /// The identity from whose token a tenant may be chosen now, or why there is none.
    ///
    /// A refused choice leaves the session without a tenant, not without its token.
    pub(super) fn chooser(&self) -> Result<&T, Lost> {
        match self.local.as_ref().unwrap_or(&self.session) {
            Who::Login => Ok(&self.login),
            Who::As(identity) | Who::Nobody(_, Some(identity)) => Ok(identity),
            Who::Nobody(why, None) => Err(*why),
        }
    }

    /// Whom the client has named for its session, if it has.
    pub(super) const fn presented(&self) -> Option<&T> {
        match &self.session {
            Who::As(identity) | Who::Nobody(_, Some(identity)) => Some(identity),
            Who::Login | Who::Nobody(_, None) => None,
        }
    }

    /// Whether the session is who logged in, and nothing can change that but a new statement.
    pub(super) const fn is_plain(&self) -> bool {
        matches!((&self.before, &self.session, &self.local), (Who::Login, Who::Login, None))
    }

    /// Whether the end of the transaction changes who the session is.
    pub(super) const fn is_pending(&self) -> bool {
        self.local.is_some() || self.is_changed
    }

    /// The session becomes somebody, in the transaction that is open.
    pub(super) fn set(&mut self, who: Who<T>, is_local: bool, has_savepoint: bool) {
        self.is_behind_savepoint |= has_savepoint;
        if is_local {
            self.local = Some(who);
        } else {
            (self.session, self.local, self.is_changed) = (who, None, true);
        }
    }

    /// The client may not be what it asked for, and does not go on as it was. No rollback undoes
    /// that. The next choice is made from the token of `chooser`, if there is one.
    pub(super) fn lose(&mut self, why: Lost, is_local: bool, chooser: Option<T>) {
        if is_local {
            self.local = Some(Who::Nobody(why, chooser));
        } else {
            self.local = None;
            self.session = Who::Nobody(why, chooser.clone());
            self.before = Who::Nobody(why, chooser);
        }
    }

    pub(super) fn commit(&mut self) {
        self.before = self.session.clone();
        self.end();
    }

    pub(super) fn roll_back(&mut self) {
        self.session = self.before.clone();
        self.end();
    }

    /// The savepoint is not looked up. The client has to choose again, and may do so from the
    /// login's token if no other token can be in force.
    pub(super) fn roll_back_to_savepoint(&mut self, has_logins_token: impl Fn(&T) -> bool) {
        if self.is_behind_savepoint {
            let is_logins = |who: &Who<T>| match who {
                Who::Login => true,
                Who::As(identity) | Who::Nobody(_, Some(identity)) => has_logins_token(identity),
                Who::Nobody(_, None) => false,
            };
            let is_known = is_logins(&self.before)
                && is_logins(&self.session)
                && self.local.as_ref().is_none_or(is_logins);
            let chooser = is_known.then(|| self.login.clone());
            self.local = Some(Who::Nobody(Lost::RolledBack, chooser));
        }
    }

    fn end(&mut self) {
        self.local = None;
        self.is_changed = false;
        self.is_behind_savepoint = false;
    }

    /// Drops identities of the client's that are good no more, between transactions. Returns
    /// whether that changes who the session is.
    pub(super) fn expire(&mut self, is_good: impl Fn(&T) -> bool) -> bool {
        let mut has_expired = false;
        for who in [&mut self.before, &mut self.session].into_iter().chain(&mut self.local) {
            let is_over = match who {
                Who::As(identity) | Who::Nobody(_, Some(identity)) => !is_good(identity),
                Who::Login | Who::Nobody(_, None) => false,
            };
            if is_over {
                has_expired |= matches!(who, Who::As(_));
                *who = Who::Nobody(Lost::Expired, None);
            }
        }
        has_expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words: `a` for a SET of `a`, `.a` for a local one, `!` and `.!` for a refused token, `?` and
    /// `.?` for a refused choice, who the session is then, behind a `=`, and from whose token the
    /// next choice is made, behind a `<`.
    #[track_caller]
    fn check(script: &str) {
        let mut acting = Acting::new("login");
        let mut has_savepoint = false;
        for word in script.split_whitespace() {
            match word {
                "commit" => acting.commit(),
                "rollback" => acting.roll_back(),
                "savepoint" => has_savepoint = true,
                // `a` and `b` were chosen from the login's token; other names are other tokens.
                "to" => acting.roll_back_to_savepoint(|id| ["login", "a", "b"].contains(id)),
                "expire" => {
                    let was = acting.now().copied();
                    let has_expired = acting.expire(|identity| *identity != "old");
                    assert_eq!(has_expired, was == Ok("old"), "{script}");
                }
                "!" => acting.lose(Lost::Refused, false, None),
                ".!" => acting.lose(Lost::Refused, true, None),
                "?" => acting.lose(Lost::Refused, false, acting.chooser().ok().copied()),
                ".?" => acting.lose(Lost::Refused, true, acting.chooser().ok().copied()),
                "reset" => acting.set(Who::Login, false, has_savepoint),
                "pending" => assert!(acting.is_pending(), "{script}"),
                "plain" => assert!(acting.is_plain() && !acting.is_pending(), "{script}"),
                _ if word.starts_with('<') => {
                    let chooser = acting.chooser().copied().unwrap_or("none");
                    assert_eq!(chooser, &word[1..], "{word} in {script}");
                }
                _ => match (word.strip_prefix('='), word.strip_prefix('.')) {
                    (Some(who), _) => {
                        let now = acting.now().copied().unwrap_or("nobody");
                        assert_eq!(now, who, "{word} in {script}");
                    }
                    (None, Some(who)) => acting.set(Who::As(who), true, has_savepoint),
                    (None, None) => acting.set(Who::As(word), false, has_savepoint),
                },
            }
        }
    }

    #[test]
    fn it_ends_as_settings_do() {
        check("plain =login a =a pending commit =a b =b rollback =a reset =login commit plain");
        check(".a =a pending commit =login plain");
        check("a commit .b =b rollback =a .b a2 =a2 commit =a2");
        check("a .b =b commit =a");
    }

    #[test]
    fn who_was_refused_is_nobody_whatever_is_rolled_back() {
        check("a commit ! =nobody rollback =nobody commit =nobody reset commit =login");
        check("a commit .! =nobody rollback =a");
    }

    #[test]
    fn a_refused_choice_leaves_the_token_to_choose_from() {
        check("? =nobody <login commit =nobody <login a commit =a");
        check("a commit ? =nobody <a ? <a rollback =nobody <a reset =login");
        check("a commit .? =nobody <a commit =a");
        check("! =nobody <none ? <none reset <login");
        check("old commit ? <old expire =nobody <none");
        check("savepoint .a to =nobody <login .b =b commit =login");
        check("other commit savepoint .a to =nobody <none rollback =other <other");
    }

    #[test]
    fn a_savepoint_leaves_nobody_in_doubt() {
        check(".a savepoint to =a commit =login");
        check("savepoint .a to =nobody rollback =login");
    }

    #[test]
    fn an_end_makes_nobody_but_not_of_the_login() {
        check("old commit expire =nobody commit =nobody reset commit expire =login");
        check("a commit expire =a");
    }
}
