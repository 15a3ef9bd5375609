"""What az does beside hubs: signing in as a person, rights, locks, the activity log, templates."""
