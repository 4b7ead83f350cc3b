"""What the world must be like for the pipeline to work, and what follows where it is not: facts in, verdicts out.

`preconditions` is the one list, `asked` asks the database for it: when a worker starts, before steps and tasks, for
`flask doctor`. `flask retention adopt` prints it. The other modules judge one thing each, without asking anybody:
`tables` and `words` (what is missing), `people` (tables of users and sessions), `copying` (how columns move, and by
`casts` what that does to values), `hidden` (rows that policies hide), `privileges` (what the role lacks), `server`
(what the server refuses). A verdict is a `Finding`: a sentence, what to do, and the policies that it blocks.
"""
