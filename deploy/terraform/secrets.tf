# Which process is handed which secrets. The migrations alone are the owner of the tables.
locals {
  of_web_alone = ["METRICS_TOKEN", "OPS_USERS", "SECRET_KEY"]
  of_all       = { for name, arn in var.secrets : name => arn if !contains(local.of_web_alone, name) }

  secrets = {
    web     = var.secrets
    worker  = local.of_all
    beat    = local.of_all
    migrate = merge(local.of_all, { DATABASE_URL = var.owners_database_url_secret })
  }
}
